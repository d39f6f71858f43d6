"""The overdamped limit: with strong friction the mechanics is a Riemannian gradient flow.

In the time s = t / gamma the particle follows dw/ds = -grav g / (1 + |g|^2) as gamma -> infinity,
with an error of order 2 in 1/gamma from rest, and of order 1 with a fixed initial velocity
(THEORY.md section 6).
"""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

import flows
import potentials

from .study import AbstractStudy, Conclusion
from .variables import dataset, variable

# The smallest errors are about 1e-5 of the path's length.
_RTOL, _ATOL = 1e-9, 1e-12
_SAVES = 101
_STARTS = {"from_rest": 2.0, "moving": 1.0}


class DimsLimit(AbstractStudy):
    """Error of the limit on the ring against friction, from rest and with a velocity.

    Args:
        gravity: weight of the loss in the energy.
        start: where all runs start.
        velocity: initial velocity of the part "moving".
        horizon: s at the end.
        frictions: viscous coefficients gamma.
    """

    def __init__(
        self,
        *,
        gravity: float,
        start: tuple[float, ...],
        velocity: tuple[float, ...],
        horizon: float,
        frictions: tuple[float, ...],
    ):
        self._gravity, self._horizon = gravity, horizon
        self._start, self._velocity = jnp.array(start), jnp.array(velocity)
        self._frictions = tuple(sorted(frictions))
        self._potential = potentials.Ring()

    @property
    def attributes(self) -> dict[str, Any]:
        """Gravity and horizon."""
        return {"gravity": self._gravity, "horizon": self._horizon}

    @property
    def parts(self) -> tuple[str, ...]:
        """From rest, and moving."""
        return tuple(_STARTS)

    def compute(self, part: str) -> xr.Dataset:
        """Run for every friction."""
        velocity = self._velocity if part == "moving" else jnp.zeros_like(self._velocity)
        limit, paths = (np.asarray(x) for x in self._run(velocity, jnp.array(self._frictions)))
        error = np.linalg.norm(paths[:, -1] - limit[-1], axis=-1)
        s = np.linspace(0.0, self._horizon, _SAVES)
        return dataset(
            {
                "error": variable(
                    "friction", error, "parameter", "distance from the limit at the end"
                ),
                "params": variable(
                    ("friction", "time", "parameter"), paths, "parameter", "path of the particle"
                ),
                "limit": variable(
                    ("time", "parameter"), limit, "parameter", "path of the limiting flow"
                ),
            },
            {
                "friction": variable("friction", self._frictions, "1 / time", "gamma"),
                "time": variable("time", s, "time^2", "s = t / gamma"),
            },
            label=part.replace("_", " "),
            order=float(-np.polyfit(np.log(self._frictions[-3:]), np.log(error[-3:]), 1)[0]),
            predicted_order=_STARTS[part],
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """The orders of the error, of the largest frictions, and the limit itself."""
        conclusions = [
            Conclusion(
                f"order of the error in 1 / gamma, {data.attrs['label']}",
                data.attrs["order"],
                data.attrs["predicted_order"],
            )
            for data in parts.values()
        ]
        if "from_rest" in parts:
            data = parts["from_rest"]
            conclusions += [
                Conclusion(f"error from rest at gamma = {gamma:g}", float(error))
                for gamma, error in zip(data["friction"].values, data["error"].values, strict=True)
            ]
        return conclusions

    def _run(self, velocity: Array, frictions: Array) -> tuple[Array, Array]:
        """The limit's path (time, 2), and those of the mechanics (friction, time, 2)."""
        potential, gravity = self._potential, self._gravity
        times = jnp.linspace(0.0, self._horizon, _SAVES)

        def solve(field: Any, state: Any, factor: Array) -> Any:
            return diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                diffrax.Tsit5(),
                t0=0.0,
                t1=factor * self._horizon,
                dt0=None,
                y0=state,
                args=potential,
                stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
                saveat=diffrax.SaveAt(ts=factor * times),
                max_steps=10**5,
            ).ys

        def limit(s: Any, w: Array, args: Any) -> Array:
            gradient = jax.grad(args)(w)
            return -gravity * gradient / (1 + gradient @ gradient)

        @eqx.filter_jit
        def both(velocity: Array, frictions: Array) -> tuple[Array, Array]:
            def one(gamma: Array) -> Array:
                flow = flows.DissipativeFlow(gravity, flows.Viscous(gamma))
                state = flows.DissipativeState(self._start, velocity)
                return solve(flow.vector_field, state, gamma).position

            return solve(limit, self._start, jnp.ones(())), jax.vmap(one)(frictions)

        return both(velocity, frictions)
