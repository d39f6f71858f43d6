"""Two limits of the rolling ball: radius to 0, gradient flow; learning rate to 0, the flow."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp, potentials
from ..tables.base import PositiveFloat, Size
from .fields import Distinct, Pair
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_COORDINATES = {
    "radius": ("parameter", "radius of the ball"),
    "learning_rate": ("1", "learning rate"),
}


class BallLimit(AbstractStudy):
    """`kind = "ball_limit"`: radius to 0 and learning rate to 0 on a double well.

    The errors of ball-centre dynamics and of the rolling ball are distances of contacts, all at
    one time.

    Attributes:
        horizon: The time, learning rate times steps.
        start: Where the balls touch at the start.
        radii: Of the balls whose distance from gradient flow is measured.
        radius: Of the ball whose discrete steps are compared with its flow.
        steps: How many of them make the horizon.
    """

    kind: Literal["ball_limit"]
    horizon: PositiveFloat = 1.0
    start: Pair = (0.4, 1.0)
    radii: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=3), Distinct
    ] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
    radius: PositiveFloat = 0.05
    steps: Annotated[tuple[Size, ...], pydantic.Field(strict=False, min_length=3), Distinct] = (
        25,
        50,
        100,
        200,
        400,
        800,
    )

    figures = ("ball_limit",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The time, and the radius of the second limit."""
        return {"horizon": self.horizon, "radius": self.radius}

    @property
    def parts(self) -> tuple[str, ...]:
        """The two limits."""
        return tuple(_COORDINATES)

    def check(self) -> None:
        """Build the balls and the potential."""
        self._potential()
        for radius in (*self.radii, self.radius):
            flows.RollingBall(self.horizon, radius)

    def compute(self, part: str) -> Dataset:
        """Measure the errors of one limit."""
        if part == "radius":
            values = np.sort(self.radii)
            errors = self._to_gradient_flow(values)
        else:
            steps = np.sort(self.steps)[::-1]
            values = self.horizon / steps
            errors = self._to_the_flow(steps)
        name = "distance of the contacts at the end"
        return dataset(
            {"error": (part, errors, "parameter", name)},
            {part: (part, values, *_COORDINATES[part])},
            order=float(np.polyfit(np.log(values[:3]), np.log(errors[:3]), 1)[0]),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Both are of first order, fitted to the three smallest values."""
        names = {"radius": "order in the radius", "learning_rate": "order in the learning rate"}
        return [Conclusion(names[part], data.attrs["order"], 1.0) for part, data in parts.items()]

    def _potential(self) -> "potentials.DoubleWell":
        return potentials.DoubleWell(transverse=[1.0])

    def _contacts(self, radii: np.ndarray) -> np.ndarray:
        """Return where the contacts are at the end, for several radii."""
        potential, start = self._potential(), jnp.asarray(self.start)

        @eqx.filter_jit
        @jax.vmap
        def end(radius: "jax.Array") -> "jax.Array":
            flow = flows.BallCentreFlow(flows.RollingBall(self.horizon, radius), curvature=False)
            run = flows.simulate(flow, potential, start, 1, measurements=())
            return run.observables["contact"][-1]

        return np.asarray(end(jnp.asarray(radii)))

    def _to_gradient_flow(self, radii: np.ndarray) -> np.ndarray:
        flow = flows.GradientFlow(flows.GradientDescent(self.horizon))
        start = jnp.asarray(self.start)
        limit = flows.simulate(flow, self._potential(), start, 1, measurements=()).params[-1]
        return np.linalg.norm(self._contacts(radii) - np.asarray(limit), axis=1)

    def _to_the_flow(self, numbers: np.ndarray) -> np.ndarray:
        limit = self._contacts(np.array([self.radius]))[0]
        potential, start = self._potential(), jnp.asarray(self.start)

        @eqx.filter_jit
        def end(steps: "jax.Array") -> "jax.Array":
            rate = self.horizon / steps.astype(start.dtype)
            optimizer = flows.RollingBall(rate, self.radius)
            return jax.lax.fori_loop(
                0, steps, lambda _, state: optimizer.step(state, potential), optimizer.init(start)
            ).params

        ends = np.stack([np.asarray(end(jnp.asarray(int(steps)))) for steps in numbers])
        return np.linalg.norm(ends - limit, axis=1)
