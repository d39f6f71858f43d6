"""An oscillation that decays below rounding before the edge, and the onset that rounding then sets.

On a slow valley gradient descent takes so long to the edge of stability that its oscillation decays
below the rounding errors of its steps. At the edge those grow, not what is left of the start: the
onset depends on the precision. In exact arithmetic it would come far later, or not at all. The
parity flow with a source of that size is an ordinary equation with the same onset; its own
arithmetic is float64 in both cases.
"""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp, potentials
from ..tables.base import PositiveFloat, refuse
from .fields import Pair
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

# So that the solver's errors do not count: they would be a source of their own.
_RTOL, _ATOL = 1e-8, 1e-10
# Of the largest |d|: the onset is the first step after the decay at which |d| is above it.
_ONSET = 0.3


class ParityRounding(AbstractStudy):
    """`kind = "parity_rounding"`: onsets of oscillations on a valley, in float64 and float32.

    Each part runs gradient descent in one precision, from `start`, and the parity flow with the
    rounding errors of that precision.

    Attributes:
        learning_rate: eta.
        epsilon: Slope of the valley's floor.
        zeta: Asymmetry of its walls.
        start: w at step 0.
        steps: How long the runs are.
        burn: The step at which the flow's start is fitted.
        order: Of the flow.
    """

    kind: Literal["parity_rounding"]
    learning_rate: PositiveFloat = 0.3
    epsilon: PositiveFloat = 1e-3
    zeta: float = 1.0
    start: Pair = (0.0, 6.0)
    steps: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 4000
    burn: Annotated[int, pydantic.Field(ge=7, le=10_000)] = 10
    order: Annotated[int, pydantic.Field(ge=1, le=4)] = 2

    figures = ("parity_rounding",)

    @pydantic.model_validator(mode="after")
    def _the_flow_begins_before_the_end(self) -> "ParityRounding":
        if self.burn >= self.steps:
            raise refuse("burn", f"given {self.burn}; must be below steps = {self.steps}")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta and epsilon."""
        return {
            "learning_rate": self.learning_rate,
            "critical_sharpness": 2 / self.learning_rate,
            "epsilon": self.epsilon,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """The precisions."""
        return ("float64", "float32")

    def check(self) -> None:
        """Build the flows.

        Raises:
            ValueError: If JAX computes in single precision.
        """
        if jnp.asarray(0.0).dtype != jnp.float64:
            raise ValueError(
                'precision must be "float64": the study runs gradient descent in both precisions '
                'and the flow in float64; got "float32".'
            )
        for part in self.parts:
            self._flow(part)

    def compute(self, part: str) -> Dataset:
        """Run gradient descent in one precision, and the flow with the rounding errors of it."""
        import diffrax

        flow = self._flow(part)
        potential = potentials.SharpValley(self.epsilon, self.zeta)
        start = jnp.array(self.start)
        run = flows.simulate(
            flow,
            potential,
            start,
            self.steps,
            measurements=(),
            solver=diffrax.Tsit5(),
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
        )
        discrete = flows.iterate(
            flow.optimizer, potential, start.astype(part), self.steps + 2, measurements=()
        )
        # Differences in float64, where iterates of both precisions are exact.
        path = np.asarray(discrete.params, np.float64)[self.burn - 2 :]
        midpoints = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
        # Of second differences twice, in which slow motion counts less than rounding.
        away = path[1:-1] - midpoints
        measured = np.linalg.norm(away[:-2] - 2 * away[1:-1] + away[2:], axis=1) / 4
        midpoints = midpoints[1:-1]
        predicted = np.asarray(run.observables["half_difference_length"])
        steps = np.asarray(run.steps)
        centres = np.asarray(run.params)
        distances, moved = (
            np.linalg.norm(midpoints - other, axis=1).mean() for other in (centres, midpoints[:1])
        )
        return dataset(
            {
                "oscillation": ("step", measured, "parameter", "|d| of gradient descent"),
                "half_difference_length": ("step", predicted, "parameter", "|d| of the flow"),
            },
            {"step": ("step", steps, "optimizer steps", "step of gradient descent")},
            label=part,
            onset=_onset(steps, measured),
            predicted_onset=_onset(steps, predicted),
            tracking_error=float(distances / moved),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare the onsets, and give the flow's error."""
        conclusions = []
        for part, data in parts.items():
            attrs = data.attrs
            quantity = f"{part}: onset of gradient descent, beside that of the flow (step)"
            conclusions.append(Conclusion(quantity, attrs["onset"], attrs["predicted_onset"]))
            error = Conclusion(f"{part}: error of the flow's centre", attrs["tracking_error"])
            conclusions.append(error)
        return conclusions

    def _flow(self, part: str) -> "flows.ParityFlow":
        optimizer = flows.GradientDescent(self.learning_rate)
        noise: Literal["float32", "float64"] = "float32" if part == "float32" else "float64"
        # The remainder is not looked at.
        return flows.ParityFlow(
            optimizer, self.order, burn=self.burn, noise=noise, remainder_every=self.steps + 1
        )


def _onset(steps: np.ndarray, lengths: np.ndarray) -> int:
    """Return the first step after the smallest length at which it is a share of the largest."""
    smallest = int(np.argmin(lengths))
    late = lengths[smallest:]
    return int(steps[smallest + int(np.argmax(late > _ONSET * late.max()))])
