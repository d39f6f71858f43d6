"""Where gradient descent and its flows end on the quartic, as its curvature passes 2/eta.

On S w^2 / 2 - Q w^4 / 4 gradient descent settles on w = 0 below S = 2/eta and above on a two-cycle,
w^2 = S/Q - 2/(eta Q), which loses its symmetry at S = 3/eta. The rod flow has a fixed point with
the centre 0 and that variance for every S above 2/eta.
"""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp, potentials
from ..tables.base import PositiveFloat, refuse
from .fields import check_order
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

# learning_rate * S up to which gradient descent on the quartic stays bounded.
_BOUNDED = 4.0
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
    """`kind = "rod_quartic"`: where gradient descent and its flows end on the quartic, against S.

    S takes `points` values from `lowest` to `highest`; beyond 4 / `learning_rate` gradient descent
    diverges.

    Attributes:
        learning_rate: eta.
        quartic: Q.
        start: w at step 0.
        steps: How long each of them runs.
        lowest: The smallest S.
        highest: The largest.
        points: How many values S takes.
    """

    kind: Literal["rod_quartic"]
    learning_rate: PositiveFloat = 1.0
    quartic: PositiveFloat = 1.0
    start: PositiveFloat = 0.05
    steps: Annotated[int, pydantic.Field(ge=100, le=100_000)] = 2000
    lowest: PositiveFloat = 1.8
    highest: PositiveFloat = 3.2
    points: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 141

    figures = ("rod_quartic",)

    @pydantic.model_validator(mode="after")
    def _curvatures_make_a_range_that_stays_bounded(self) -> "RodQuartic":
        check_order(self, "lowest", "highest")
        if self.highest * self.learning_rate > _BOUNDED:
            most = _BOUNDED / self.learning_rate
            message = f"given {self.highest:g}; must be at most {_BOUNDED:g} / learning_rate ="
            raise refuse("highest", f"{message} {most:g}, beyond which gradient descent diverges")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta and Q."""
        return {
            "learning_rate": self.learning_rate,
            "critical_sharpness": 2 / self.learning_rate,
            "quartic": self.quartic,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Gradient descent, and each flow."""
        return ("gradient_descent", "rod_flow", "central_flow", "gradient_flow")

    def check(self) -> None:
        """Build the optimizer."""
        flows.GradientDescent(self.learning_rate)

    def compute(self, part: str) -> Dataset:
        """Run one of them for all curvatures at once."""

        @eqx.filter_jit
        @jax.vmap
        def ends(curvature: "jax.Array") -> "dict[str, jax.Array]":
            potential = potentials.Quartic(curvature, self.quartic)
            if part == "gradient_descent":
                return {"iterates": self._iterates(potential)}
            return self._end_of_flow(part, potential)

        curvatures = self._curvatures
        return dataset(
            {
                name: (("curvature", "last")[: value.ndim], value, *_DESCRIPTIONS[name])
                for name, value in ends(jnp.asarray(curvatures)).items()
            },
            {
                "curvature": (
                    "curvature",
                    curvatures,
                    "loss / parameter^2",
                    "curvature S of the quartic at 0",
                )
            },
            label=part,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare the two-cycle and the rod with the formula, and find where symmetry is lost."""
        conclusions = []
        curvatures = self._curvatures
        formula = (curvatures - 2 / self.learning_rate) / self.quartic
        above = formula > 0
        symmetric = np.ones_like(above)
        if "gradient_descent" in parts:
            last = parts["gradient_descent"]["iterates"].values[:, -2:]
            size = np.abs(last).max(axis=1)
            symmetric = np.abs(last.sum(axis=1)) <= _SYMMETRIC * np.maximum(size, self.start)
            squares = -last[:, 0] * last[:, 1]
            deviation = np.abs(squares - formula)[above & symmetric].max(initial=0.0)
            name = "largest |w^2 - formula| of the symmetric two-cycles"
            conclusions.append(Conclusion(name, float(deviation), 0.0))
            if not symmetric.all():
                first = float(curvatures[~symmetric].min())
                name = "lowest curvature of an asymmetric two-cycle"
                conclusions.append(Conclusion(name, first, 3 / self.learning_rate))
        if "rod_flow" in parts:
            deviation = np.abs(parts["rod_flow"]["variance"].values - formula)[above & symmetric]
            name = "largest |Sigma - formula| of the rod flow, at the same curvatures"
            conclusions.append(Conclusion(name, float(deviation.max(initial=0.0)), 0.0))
        return conclusions

    @property
    def _curvatures(self) -> np.ndarray:
        return np.linspace(self.lowest, self.highest, self.points)

    def _iterates(self, potential: "potentials.Quartic") -> "jax.Array":
        """Return the last iterates of gradient descent, of shape (_LAST,)."""
        optimizer = flows.GradientDescent(self.learning_rate)

        def step(state: Any, _: None) -> "tuple[Any, jax.Array]":
            state = optimizer.step(state, potential)
            return state, optimizer.params(state)[0]

        start = optimizer.init(jnp.array([self.start]))
        return jax.lax.scan(step, start, length=self.steps)[1][-_LAST:]

    def _end_of_flow(self, part: str, potential: "potentials.Quartic") -> "dict[str, jax.Array]":
        """Return the centre of a flow at the end, and the variance if it predicts one."""
        optimizer = flows.GradientDescent(self.learning_rate)
        if part == "rod_flow":
            flow = flows.RodFlow(optimizer, rank=1, alignment=False)
        elif part == "central_flow":
            flow = flows.CentralFlow(optimizer, rank=1)
        else:
            flow = flows.GradientFlow(optimizer)
        run = flows.simulate(
            flow,
            potential,
            jnp.array([self.start]),
            self.steps,
            save_every=self.steps,
            max_solver_steps=_SOLVER_STEPS * self.steps,
        )
        seen, found = run.observables, {"centre": run.params[-1, 0]}
        if part == "rod_flow":
            found["variance"] = jnp.square(seen["rod_half_lengths"][-1, 0])
        elif part == "central_flow":
            found["variance"] = seen["variances"][-1, 0]
        return found
