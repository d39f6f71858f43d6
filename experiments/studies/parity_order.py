"""The order of the parity flow in the slowness of the motion, on the sharp valley at its edge.

From (sqrt(epsilon), 2/eta + sqrt(epsilon)/2) gradient descent on the valley circles the edge of
stability in some 1 / sqrt(epsilon) steps: the slowness is sqrt(epsilon). A flow of order p predicts
the iterates up to a relative error of order sqrt(epsilon)^p, over a number of steps in proportion
to 1 / sqrt(epsilon).
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp, potentials
from ..tables.base import PositiveFloat, refuse
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_PREFIX = "order"
_MOST_STEPS = 100_000
# So that the solver's errors do not count: order 4 reaches 1e-9.
_RTOL, _ATOL = 1e-10, 1e-13
# Each valley's slope is that of the one before over this, and its motion twice as slow.
_RATIO = 4
# Slopes in a row that Aitken's extrapolation takes.
_EXTRAPOLATED = 3


class ParityOrder(AbstractStudy):
    """`kind = "parity_order"`: the parity flow's error against the slowness, for several orders.

    Each flow runs on `points` valleys of slopes `epsilon`, `epsilon` / 4, `epsilon` / 16, ..., from
    a start fitted at step `burn` to `horizon` / sqrt(epsilon) steps. Its error is the mean distance
    of what it predicts from gradient descent, over the mean displacement of that: of the iterates,
    and of the midpoints (w_{t-1} + 2 w_t + w_{t+1}) / 4, which are a filter of second order
    themselves.

    Attributes:
        learning_rate: eta.
        zeta: Asymmetry of the valleys.
        epsilon: Slope of the steepest of them.
        points: How many there are.
        horizon: sqrt(epsilon) times the steps of each run.
        burn: The step at which the flow's start is fitted.
        orders: Of the flow.
    """

    kind: Literal["parity_order"]
    learning_rate: PositiveFloat = 0.3
    zeta: float = 1.0
    epsilon: PositiveFloat = 1e-2
    points: Annotated[int, pydantic.Field(ge=2, le=8)] = 4
    horizon: PositiveFloat = 60.0
    burn: Annotated[int, pydantic.Field(ge=7, le=10_000)] = 12
    orders: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1, le=4)], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = (1, 2, 3, 4)

    figures = ("parity_order",)

    @pydantic.model_validator(mode="after")
    def _runs_end_and_begin(self) -> "ParityOrder":
        steps = self._steps
        if max(steps) > _MOST_STEPS:
            message = f"given {self.horizon:g}; the longest run must be at most {_MOST_STEPS} steps"
            raise refuse("horizon", f"{message}, and is {max(steps)}")
        if min(steps) <= self.burn:
            message = f"given {self.burn}; must be below the shortest run's end, step {min(steps)}"
            raise refuse("burn", message)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate and 2/eta."""
        return {"learning_rate": self.learning_rate, "critical_sharpness": 2 / self.learning_rate}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per order."""
        return tuple(f"{_PREFIX}-{order}" for order in self.orders)

    def check(self) -> None:
        """Build the flows."""
        for order in self.orders:
            self._flow(order)

    def compute(self, part: str) -> Dataset:
        """Run the flow of one order, and gradient descent, on every valley."""
        order = int(part.removeprefix(f"{_PREFIX}-"))
        errors = [
            self._errors(order, epsilon, steps)
            for epsilon, steps in zip(self._epsilons, self._steps, strict=True)
        ]
        iterates, midpoints = np.transpose(errors)
        return dataset(
            {
                "iterate_error": (
                    "slowness",
                    iterates,
                    "1",
                    "mean distance of predicted iterates over the mean displacement",
                ),
                "tracking_error": (
                    "slowness",
                    midpoints,
                    "1",
                    "mean distance of the centre from midpoints over the mean displacement",
                ),
                "steps": ("slowness", self._steps, "optimizer steps", "length of the run"),
            },
            {
                "slowness": (
                    "slowness",
                    np.sqrt(self._epsilons),
                    "(loss / parameter)^(1/2)",
                    "sqrt(epsilon)",
                )
            },
            label=f"order {order}",
            order=order,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give the slopes between neighbours, and what they tend to: the order."""
        conclusions = []
        for data in parts.values():
            order, slowness = int(data.attrs["order"]), data["slowness"].values
            errors = data["iterate_error"].values
            conclusions.append(
                Conclusion(f"order {order}: error at the smallest slowness", float(errors[-1]))
            )
            slopes = np.diff(np.log(errors)) / np.diff(np.log(slowness))
            for upper, lower, slope in zip(slowness[:-1], slowness[1:], slopes, strict=True):
                quantity = f"order {order}: slope from {upper:g} to {lower:g}"
                conclusions.append(Conclusion(quantity, float(slope)))
            # Slopes deviate from the order in proportion to a power of the slowness.
            last = slopes[-_EXTRAPOLATED:]
            if len(last) == _EXTRAPOLATED and (second := np.diff(last, 2)[0]):
                limit = float(last[-1] - (last[-1] - last[-2]) ** 2 / second)
                quantity = f"order {order}: limit of the slopes, extrapolated"
                conclusions.append(Conclusion(quantity, limit, order))
        return conclusions

    @property
    def _epsilons(self) -> list[float]:
        return [self.epsilon / _RATIO**index for index in range(self.points)]

    @property
    def _steps(self) -> list[int]:
        return [round(self.horizon / math.sqrt(epsilon)) for epsilon in self._epsilons]

    def _flow(self, order: int) -> "flows.ParityFlow":
        optimizer = flows.GradientDescent(self.learning_rate)
        # The remainder is not looked at.
        return flows.ParityFlow(optimizer, order, burn=self.burn, remainder_every=_MOST_STEPS)

    def _errors(self, order: int, epsilon: float, steps: int) -> tuple[float, float]:
        """Return the errors of the iterates and of the midpoints, over a number of steps."""
        import diffrax

        flow, root = self._flow(order), math.sqrt(epsilon)
        potential = potentials.SharpValley(epsilon, self.zeta)
        start = jnp.array([root, 2 / self.learning_rate + root / 2])
        # All runs are of the length of the longest, so that they are compiled once.
        most = max(self._steps)
        run = flows.simulate(
            flow,
            potential,
            start,
            most,
            segment=most,
            measurements=(),
            solver=diffrax.Tsit5(),
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        )
        discrete = flows.iterate(flow.optimizer, potential, start, most, measurements=())
        times = np.arange(self.burn, steps + 1)
        here = slice(self.burn, steps + 1)
        path, midpoints = (
            np.asarray(x)[here] for x in (discrete.params, discrete.midpoints("three_point"))
        )
        centres = np.asarray(run.params)[: len(times)]
        half = np.asarray(run.observables["half_difference"])[: len(times)]
        predicted = centres + np.where(times % 2 == 0, 1, -1)[:, None] * half
        return _relative(predicted, path), _relative(centres, midpoints)


def _relative(predicted: np.ndarray, path: np.ndarray) -> float:
    """Return the mean distance over the mean displacement."""
    distances, displacements = (
        np.linalg.norm(path - other, axis=1) for other in (predicted, path[:1])
    )
    return float(distances.mean() / displacements.mean())
