"""Two limits of the rolling ball: radius to 0, gradient flow; learning rate to 0, the flow."""

from collections.abc import Mapping
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


class BallLimit(AbstractStudy):
    """Errors of ball-centre dynamics and of the rolling ball on a double well, at one time.

    Args:
        horizon: The time, learning rate times steps.
        start: Where the balls touch at the start.
        radii: Of the balls whose distance from gradient flow is measured.
        radius: Of the ball whose discrete steps are compared with its flow.
        steps: How many of them make the horizon.
    """

    def __init__(
        self,
        *,
        horizon: float,
        start: tuple[float, ...],
        radii: tuple[float, ...],
        radius: float,
        steps: tuple[int, ...],
    ):
        self._horizon, self._start = horizon, jnp.asarray(start)
        self._radii, self._radius = np.sort(radii), radius
        self._steps = np.sort(steps)[::-1]
        self._potential = potentials.DoubleWell(transverse=[1.0])

    @property
    def attributes(self) -> dict[str, Any]:
        """The time, and the radius of the second limit."""
        return {"horizon": self._horizon, "radius": self._radius}

    @property
    def parts(self) -> tuple[str, ...]:
        """The two limits."""
        return ("radius", "learning_rate")

    def compute(self, part: str) -> xr.Dataset:
        """Measure the errors of one limit."""
        if part == "radius":
            errors, values = self._to_gradient_flow(), self._radii
            described = ("parameter", "radius of the ball")
        else:
            errors, values = self._to_the_flow(), self._horizon / self._steps
            described = ("1", "learning rate")
        name = "distance of the contacts at the end"
        units, long_name = described
        return xr.Dataset(
            {"error": (part, errors, {"units": "parameter", "long_name": name})},
            {part: (part, values, {"units": units, "long_name": long_name})},
            {"order": float(np.polyfit(np.log(values[:3]), np.log(errors[:3]), 1)[0])},
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Both are of first order, fitted to the three smallest values."""
        names = {"radius": "order in the radius", "learning_rate": "order in the learning rate"}
        return [Conclusion(names[part], data.attrs["order"], 1.0) for part, data in parts.items()]

    def _contacts(self, radii: np.ndarray) -> np.ndarray:
        """Where the contacts are at the end, for several radii."""

        @eqx.filter_jit
        @jax.vmap
        def end(radius: Array) -> Array:
            flow = flows.BallCentreFlow(flows.RollingBall(self._horizon, radius), curvature=False)
            run = flows.simulate(flow, self._potential, self._start, 1, measurements=())
            return run.observables["contact"][-1]

        return np.asarray(end(jnp.asarray(radii)))

    def _to_gradient_flow(self) -> np.ndarray:
        flow = flows.GradientFlow(flows.GradientDescent(self._horizon))
        limit = flows.simulate(flow, self._potential, self._start, 1, measurements=()).params[-1]
        return np.linalg.norm(self._contacts(self._radii) - np.asarray(limit), axis=1)

    def _to_the_flow(self) -> np.ndarray:
        limit = self._contacts(np.array([self._radius]))[0]

        @eqx.filter_jit
        def end(steps: Array) -> Array:
            rate = self._horizon / steps.astype(self._start.dtype)
            optimizer = flows.RollingBall(rate, self._radius)
            state = optimizer.init(self._start)
            return jax.lax.fori_loop(
                0, steps, lambda _, state: optimizer.step(state, self._potential), state
            ).params

        ends = np.stack([np.asarray(end(jnp.asarray(int(steps)))) for steps in self._steps])
        return np.linalg.norm(ends - limit, axis=1)
