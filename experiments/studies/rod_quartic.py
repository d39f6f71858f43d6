"""Where gradient descent and its flows end on the quartic, as its curvature passes 2/eta.

On S w^2 / 2 - Q w^4 / 4 gradient descent settles on w = 0 below S = 2/eta and above on a two-cycle,
w^2 = S/Q - 2/(eta Q), which loses its symmetry at S = 3/eta. The rod flow has a fixed point with
the centre 0 and that variance for every S above 2/eta.
"""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

import flows
import potentials

from .study import AbstractStudy, Conclusion

# Iterates that are kept of the end of each run; a two-cycle needs two.
_LAST = 16
# Per step of gradient descent, of which there is one save at the end: more than any flow takes.
_SOLVER_STEPS = 20
# Of the mean of a two-cycle beside its amplitude, below which it counts as symmetric.
_SYMMETRIC = 1e-3

_DESCRIPTIONS = {
    "iterates": ("parameter", "last iterates"),
    "centre": ("parameter", "centre of the flow at the end"),
    "variance": ("parameter^2", "variance that the flow predicts at the end"),
}


class RodQuartic(AbstractStudy):
    """The ends of gradient descent, Rod Flow, Central Flow and gradient flow against S.

    Args:
        learning_rate: eta.
        quartic: Q.
        start: w at step 0.
        steps: how long each of them runs.
        curvatures: the values of S.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        quartic: float,
        start: float,
        steps: int,
        curvatures: tuple[float, ...],
    ):
        self._optimizer = flows.GradientDescent(learning_rate)
        self._learning_rate, self._quartic = learning_rate, quartic
        self._start, self._steps = start, steps
        self._curvatures = np.asarray(curvatures)
        self._ends: dict[str, Callable[[Any], dict[str, Array]]] = {
            "gradient_descent": self._iterates,
            "rod_flow": self._rod,
            "central_flow": self._central,
            "gradient_flow": self._gradient,
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta and Q."""
        return {
            "learning_rate": self._learning_rate,
            "critical_sharpness": 2 / self._learning_rate,
            "quartic": self._quartic,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Gradient descent, and each flow."""
        return tuple(self._ends)

    def compute(self, part: str) -> xr.Dataset:
        """Run one of them for all curvatures at once."""

        @eqx.filter_jit
        @jax.vmap
        def ends(curvature: Array) -> dict[str, Array]:
            return self._ends[part](potentials.Quartic(curvature, self._quartic))

        found = {
            name: np.asarray(value) for name, value in ends(jnp.asarray(self._curvatures)).items()
        }
        attributes = {"units": "loss / parameter^2", "long_name": "curvature S of the quartic at 0"}
        return xr.Dataset(
            {
                name: (
                    ("curvature", "last")[: value.ndim],
                    value,
                    dict(zip(("units", "long_name"), _DESCRIPTIONS[name], strict=True)),
                )
                for name, value in found.items()
            },
            {"curvature": ("curvature", self._curvatures, attributes)},
            {"label": part},
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Compare the two-cycle and the rod with the formula, and find where symmetry is lost."""
        conclusions = []
        formula = (self._curvatures - 2 / self._learning_rate) / self._quartic
        above = formula > 0
        symmetric = np.ones_like(above)
        if "gradient_descent" in parts:
            last = parts["gradient_descent"]["iterates"].values[:, -2:]
            size = np.abs(last).max(axis=1)
            symmetric = np.abs(last.sum(axis=1)) <= _SYMMETRIC * np.maximum(size, self._start)
            squares = -last[:, 0] * last[:, 1]
            deviation = np.abs(squares - formula)[above & symmetric].max(initial=0.0)
            name = "largest |w^2 - formula| of the symmetric two-cycles"
            conclusions.append(Conclusion(name, float(deviation), 0.0))
            if not symmetric.all():
                first = float(self._curvatures[~symmetric].min())
                name = "lowest curvature of an asymmetric two-cycle"
                conclusions.append(Conclusion(name, first, 3 / self._learning_rate))
        if "rod_flow" in parts:
            deviation = np.abs(parts["rod_flow"]["variance"].values - formula)[above & symmetric]
            name = "largest |Sigma - formula| of the rod flow, at the same curvatures"
            conclusions.append(Conclusion(name, float(deviation.max(initial=0.0)), 0.0))
        return conclusions

    def _run(self, flow: flows.AbstractFlow, potential: Any) -> flows.Trajectory:
        run: dict[str, Any] = {
            "save_every": self._steps,
            "max_solver_steps": _SOLVER_STEPS * self._steps,
        }
        return flows.simulate(flow, potential, jnp.array([self._start]), self._steps, **run)

    def _iterates(self, potential: Any) -> dict[str, Array]:
        def step(state: Any, _: None) -> tuple[Any, Array]:
            state = self._optimizer.step(state, potential)
            return state, self._optimizer.params(state)[0]

        start = self._optimizer.init(jnp.array([self._start]))
        return {"iterates": jax.lax.scan(step, start, length=self._steps)[1][-_LAST:]}

    def _rod(self, potential: Any) -> dict[str, Array]:
        run = self._run(flows.RodFlow(self._optimizer, rank=1, alignment=False), potential)
        variance = jnp.square(run.observables["rod_half_lengths"][-1, 0])
        return {"centre": run.params[-1, 0], "variance": variance}

    def _central(self, potential: Any) -> dict[str, Array]:
        run = self._run(flows.CentralFlow(self._optimizer, rank=1), potential)
        return {"centre": run.params[-1, 0], "variance": run.observables["variances"][-1, 0]}

    def _gradient(self, potential: Any) -> dict[str, Array]:
        return {"centre": self._run(flows.GradientFlow(self._optimizer), potential).params[-1, 0]}
