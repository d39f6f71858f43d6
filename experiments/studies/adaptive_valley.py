"""Flows of RMSProp beside it at the edge of stability, on a sharp valley across the axes.

The optimizer starts on the two-cycle at the edge and stays there: its preconditioned sharpness is
at 2/eta while it moves along the valley and nu adapts. Where each parameter has a rate of its own,
flows without alternation keep an error in proportion to (1 - b2)/(1 + b2). Stable flow, which does
not oscillate, runs away along the floor.
"""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax
from ..tables.base import PositiveFloat
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .turned import (
    RMSPropMethod,
    at_edge,
    cycle_end,
    heights,
    start_of_centre,
    turned_valley,
)
from .variables import dataset

_SCALAR, _EACH = "scalar_rmsprop", "rmsprop"
_STABLE, _ALTERNATION = "stable", "_alternation"
_SHARPNESS = "preconditioned_sharpness"
# In units of the critical sharpness, where stable flow is stopped, and how often that is asked.
_LEFT = 50.0
_PIECE = 10


class AdaptiveValley(AbstractStudy):
    """`kind = "adaptive_valley"`: RMSProp and its flows at the edge, on the turned valley.

    The valley has the slope eta^2, and its floor is turned by 0.5 rad. Centres start on the floor
    at y = 1, the optimizer and the rods at an end of the two-cycle about this point. Distances are
    to the midpoints that each flow models: (w_{t-1} + 2 w_t + w_{t+1}) / 4, and (w_t + w_{t+1}) / 2
    for the rods.

    Attributes:
        learning_rate: eta.
        b2: The share of nu that a step keeps.
        steps: How long the runs are.
        zeta: Asymmetry of the valley.
        optimizers: Which of the two, with one rate of all parameters or one of each.
        models: Which flows. Stable flow is stopped at 50 times the critical sharpness. Central
            Flow with alternation is for "rmsprop" only.
    """

    kind: Literal["adaptive_valley"]
    learning_rate: PositiveFloat = 0.04
    b2: Annotated[float, pydantic.Field(ge=0.8, lt=1)] = 0.9
    steps: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 1000
    zeta: float = 1.0
    optimizers: Annotated[
        tuple[Literal["scalar_rmsprop", "rmsprop"], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = ("scalar_rmsprop", "rmsprop")
    models: Annotated[
        tuple[Literal["stable", "central", "central_alternation", "rod", "rod_alternation"], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = ("stable", "central", "central_alternation", "rod", "rod_alternation")

    figures = ("adaptive_valley",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, b2 and the threshold of the preconditioned sharpness."""
        return {
            "learning_rate": self.learning_rate,
            "b2": self.b2,
            "critical_sharpness": 2 / self.learning_rate,
            "critical_variable": "preconditioned_sharpness",
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per optimizer."""
        return self.optimizers

    def check(self) -> None:
        """Build the flows."""
        valley = turned_valley(self.learning_rate, self.zeta)
        for part in self.parts:
            for name in self._names(part):
                _flow(name, self._method(part, valley, start_of_centre()))

    def compute(self, part: str) -> Dataset:
        """Run an optimizer and its flows."""
        valley, centre = turned_valley(self.learning_rate, self.zeta), start_of_centre()
        start = cycle_end(self.learning_rate, scalar=part == _SCALAR)
        method = self._method(part, valley, start)
        path = flows.iterate(method, valley, start, self.steps, measurements=_measured())
        names = self._names(part)
        runs = []
        for name in names:
            flow, first = _flow(name, method), start
            # A rod lies between the optimizer's first two steps; other centres are given.
            if not isinstance(flow, flows.RodFlow):
                flow, first = _flow(name, self._method(part, valley, centre)), centre
            runs.append(self._run(flow, valley, first))
        along = ("flow", "step")
        return dataset(
            {
                "height": (
                    along,
                    self._rows([heights(run.params) for run in runs]),
                    "parameter",
                    "y of the centre, along the valley",
                ),
                _SHARPNESS: (
                    along,
                    self._rows([run.observables[_SHARPNESS] for run in runs]),
                    "1 / parameter",
                    "largest eigenvalue of P^-1 H at the centre",
                ),
                "distance": (
                    along,
                    self._rows([flows.distance(run, path) for run in runs]),
                    "parameter",
                    "distance of the centre from the midpoint of the iterates",
                ),
                "tracking_error": (
                    "flow",
                    [
                        float(flows.tracking_error(run, path))
                        if len(run.steps) == len(path.steps)
                        else np.nan
                        for run in runs
                    ],
                    "1",
                    "mean distance over the mean displacement of the midpoints; nan for a flow "
                    "that has left the edge",
                ),
                "midpoint_height": (
                    "step",
                    heights(path.midpoints("two_point")),
                    "parameter",
                    "y of the midpoints of two iterates",
                ),
                "iterate_sharpness": (
                    "step",
                    path.observables[_SHARPNESS],
                    "1 / parameter",
                    "largest eigenvalue of P^-1 H at the iterates",
                ),
            },
            {
                "flow": ("flow", np.array(names, object), "1", "which flow"),
                "step": ("step", np.asarray(path.steps), "optimizer steps", "time of the save"),
            },
            label=part,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give where each flow ends, and its tracking error."""
        conclusions = []
        for part, data in parts.items():
            name = part.replace("_", " ")
            end = float(data["midpoint_height"].values[-1])
            conclusions.append(Conclusion(f"{name}: y of the midpoints at the end", end))
            for flow in map(str, data["flow"].values):
                one, label = data.sel(flow=flow), f"{name}, {flow.replace('_', ' with ')} flow"
                error = float(one["tracking_error"])
                if np.isnan(error):
                    last = int(np.isfinite(one[_SHARPNESS].values).sum()) - 1
                    quantity = f"{label}: steps to {_LEFT:g} times the critical sharpness, at most"
                    conclusions.append(Conclusion(quantity, float(data["step"].values[last])))
                else:
                    height = float(one["height"].values[-1])
                    conclusions.append(Conclusion(f"{label}: y at the end", height, end))
                    conclusions.append(Conclusion(f"{label}: tracking error", error))
        return conclusions

    def _names(self, part: str) -> list[str]:
        """Return the flows of a part."""
        refused = "central" + _ALTERNATION if part == _SCALAR else ""
        return [name for name in self.models if name != refused]

    def _method(self, part: str, valley: "flows.Potential", start: Any) -> RMSPropMethod:
        return at_edge(self.learning_rate, self.b2, valley, start, scalar=part == _SCALAR)

    def _rows(self, values: "list[jax.Array | np.ndarray]") -> np.ndarray:
        """Return a row for each flow, ending with nan where it was stopped."""
        rows = np.full((len(values), self.steps + 1), np.nan)
        for row, found in zip(rows, values, strict=True):
            row[: len(found)] = np.asarray(found)
        return rows

    def _run(
        self, flow: "flows.AbstractFlow", valley: "flows.Potential", start: "jax.Array"
    ) -> "flows.Trajectory":
        """Run a flow to the end, or until it has left the edge of stability.

        Beyond, stable flow would be stiffer and stiffer, and its sharpness has no bound.
        """
        if not isinstance(flow, flows.StableFlow):
            return flows.simulate(flow, valley, start, self.steps, measurements=_measured())
        pieces: list[flows.Trajectory] = []
        for done in range(0, self.steps, _PIECE):
            piece = flows.simulate(
                flow,
                valley,
                None if pieces else start,
                min(_PIECE, self.steps - done),
                state=pieces[-1].state if pieces else None,
                measurements=_measured(),
            )
            pieces.append(piece)
            if piece.observables[_SHARPNESS][-1] > _LEFT * 2 / self.learning_rate:
                break
        return flows.concatenate(pieces)


def _measured() -> "flows.PreconditionedCurvature":
    return flows.PreconditionedCurvature()


def _flow(name: str, method: RMSPropMethod) -> "flows.AbstractFlow":
    if name == _STABLE:
        return flows.StableFlow(method)
    alternation = name.endswith(_ALTERNATION)
    if name.startswith("central"):
        return flows.CentralFlow(method, alternation=alternation)
    return flows.RodFlow(method, alternation=alternation, alignment=False)
