"""The order of Central Flow of RMSProp in the learning rate, with and without alternation.

On a two-cycle the average nu of squared gradients alternates too, by a share
kappa = (1 - b2)/(1 + b2) of the squares' own difference, and so does the rate of each parameter.
The published flow (arXiv 2410.24206) averages a step and its rate apart, and keeps an error in
proportion to kappa however small eta is. `CentralFlow(..., alternation=True)` corrects for it.
With one rate of all parameters the rate has no part that is correlated with the step.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax
from ..tables.base import PositiveFloat, refuse
from .fields import Distinct
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .turned import at_edge, start_of_centre, start_of_iterates, turned_valley
from .variables import dataset

_MOST_STEPS = 300_000
_FEWEST_STEPS = 50
# So that the solver's errors do not count.
_RTOL, _ATOL = 1e-8, 1e-10
_ORDER = 2


class AdaptiveOrder(AbstractStudy):
    """`kind = "adaptive_order"`: Central Flow's error for RMSProp against the learning rate.

    Each flow runs for `points` learning rates, each half of the one before, over `horizon` / eta^2
    steps on the sharp valley of slope eta^2, turned by 0.5 rad: a motion at the edge of stability
    over a distance that does not depend on eta. The flow starts at the centre of the two-cycle on
    which the optimizer starts. Its error is its largest distance from the midpoints
    (w_{t-1} + 2 w_t + w_{t+1}) / 4, over its displacement.

    Attributes:
        learning_rate: The largest eta.
        points: How many there are.
        horizon: eta^2 times the steps of each run.
        zeta: Asymmetry of the valley.
        b2: The share of nu that a step keeps: RMSProp runs with each, and the scalar one, which has
            no error that depends on it, with the first.
    """

    kind: Literal["adaptive_order"]
    learning_rate: PositiveFloat = 0.08
    points: Annotated[int, pydantic.Field(ge=2, le=8)] = 6
    horizon: PositiveFloat = 1.5
    zeta: float = 1.0
    b2: Annotated[
        tuple[Annotated[float, pydantic.Field(ge=0.8, lt=1)], ...],
        pydantic.Field(strict=False, min_length=1),
        Distinct,
    ] = (0.99, 0.9)

    figures = ("adaptive_order",)

    @pydantic.model_validator(mode="after")
    def _runs_have_a_length(self) -> "AdaptiveOrder":
        steps = self._steps
        if steps[0] < _FEWEST_STEPS or steps[-1] > _MOST_STEPS:
            message = f"given {self.horizon:g}; runs must be {_FEWEST_STEPS} to {_MOST_STEPS} steps"
            raise refuse("horizon", f"{message}, and are {steps[0]} to {steps[-1]}")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """What all runs have in common."""
        return {"horizon": self.horizon, "zeta": self.zeta}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per flow."""
        return tuple(self._kinds)

    def check(self) -> None:
        """Build the flows."""
        for part in self.parts:
            valley, start = turned_valley(self.learning_rate, self.zeta), start_of_centre()
            self._flow(part, self._method(part, self.learning_rate, valley, start))

    def compute(self, part: str) -> Dataset:
        """Run a flow, and the optimizer, for every learning rate."""
        scalar, b2, alternation = self._kinds[part]
        errors = [
            self._error(part, learning_rate, steps)
            for learning_rate, steps in zip(self._learning_rates, self._steps, strict=True)
        ]
        label = f"{'scalar ' * scalar}RMSProp, b2 = {b2:g}"
        if not scalar:
            label += f", {part.split('-')[0]}"
        return dataset(
            {
                "error": (
                    "learning_rate",
                    errors,
                    "1",
                    "largest distance of the centre from midpoints over the displacement",
                ),
                "steps": ("learning_rate", self._steps, "optimizer steps", "length of the run"),
            },
            {"learning_rate": ("learning_rate", self._learning_rates, "parameter", "eta")},
            label=label,
            scalar=int(scalar),
            b2=b2,
            alternation=int(alternation),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give errors and their slopes, and how the errors that remain depend on b2."""
        conclusions = []
        for data in parts.values():
            label, eta = data.attrs["label"], data["learning_rate"].values
            errors, b2 = data["error"].values, float(data.attrs["b2"])
            remains = not data.attrs["scalar"] and not data.attrs["alternation"]
            last = float(errors[-1])
            conclusions.append(Conclusion(f"{label}: error at the smallest eta", last))
            slopes = np.log(errors[:-1] / errors[1:]) / np.log(eta[:-1] / eta[1:])
            for index, slope in enumerate(slopes, start=1):
                quantity = f"{label}: slope from {eta[index - 1]:g} to {eta[index]:g}"
                # Larger learning rates are far from the limit where 1/(1 - b2) steps are a large
                # share of the run.
                limit = 0 if remains else _ORDER
                predicted = limit if index == len(slopes) else None
                conclusions.append(Conclusion(quantity, float(slope), predicted))
            if remains:
                quantity = f"{label}: error at the smallest eta over (1 - b2)/(1 + b2)"
                conclusions.append(Conclusion(quantity, last * (1 + b2) / (1 - b2)))
        return conclusions

    @property
    def _kinds(self) -> dict[str, tuple[bool, float, bool]]:
        """By part: True for one rate of all parameters, b2, and True with alternation."""
        kinds = {f"scalar-{self.b2[0]:g}": (True, self.b2[0], False)}
        for b2 in self.b2:
            kinds[f"published-{b2:g}"] = (False, b2, False)
            kinds[f"alternation-{b2:g}"] = (False, b2, True)
        return kinds

    @property
    def _learning_rates(self) -> list[float]:
        return [self.learning_rate / 2**index for index in range(self.points)]

    @property
    def _steps(self) -> list[int]:
        shortest = round(self.horizon / self.learning_rate**2)
        return [shortest * 4**index for index in range(self.points)]

    def _method(
        self, part: str, learning_rate: float, valley: "flows.Potential", start: "jax.Array"
    ) -> "flows.RMSProp | flows.ScalarRMSProp":
        scalar, b2, _ = self._kinds[part]
        return at_edge(learning_rate, b2, valley, start, scalar=scalar)

    def _flow(
        self, part: str, method: "flows.RMSProp | flows.ScalarRMSProp"
    ) -> "flows.CentralFlow":
        return flows.CentralFlow(method, directions=True, alternation=self._kinds[part][2])

    def _error(self, part: str, learning_rate: float, steps: int) -> float:
        """Return the error of one run."""
        import diffrax

        valley, centre = turned_valley(learning_rate, self.zeta), start_of_centre()
        # Of the shortest run, so that all are compiled once.
        segment = self._steps[0]
        run = flows.simulate(
            self._flow(part, self._method(part, learning_rate, valley, centre)),
            valley,
            centre,
            steps,
            segment=segment,
            measurements=(),
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        )
        start = start_of_iterates(run)
        method = self._method(part, learning_rate, valley, start)
        path = flows.iterate(method, valley, start, steps, segment=segment, measurements=())
        # The midpoint at step 0 would need an iterate before the start.
        distances = np.asarray(flows.distance(run, path))[1:]
        return float(distances.max() / math.dist(*np.asarray(run.params)[[0, -1]]))
