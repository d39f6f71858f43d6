"""What is measured of a run beyond its own trajectories: how optimizer and flows compare.

Both engines use it, single runs piece by piece and batches inside one vmapped program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Array, PyTree

import flows

from . import distances, oscillation
from .distances import Observables, Params, Path, Start

METADATA = {**distances.VARIABLES, **distances.ITERATE_VARIABLES}
"""Of what is measured of a flow beside the optimizer."""


class Comparison(NamedTuple):
    """What is measured of the optimizer for the sake of its flows, and of each flow beside it.

    Attributes:
        starts: the paths that the flows model, each with the step at which a flow of it begins.
        half_differences: measure the half-differences of the iterates, for a rod flow.
        midpoint_measurements: what is measured along the midpoints, for a flow that predicts
            variances along directions; empty if there is no such flow.
    """

    starts: frozenset[Start]
    half_differences: bool
    midpoint_measurements: oscillation.Measurements

    def first_points(self, discrete: flows.Trajectory) -> dict[Start, Params]:
        """Return where each path starts that a flow models.

        Args:
            discrete: the optimizer's trajectory from its start on, beyond each flow's first step.
        """
        return distances.first_points(discrete, self.starts)

    def optimizer(
        self,
        discrete: flows.Trajectory,
        potential: flows.Potential,
        state: PyTree[Array] | None = None,
    ) -> tuple[flows.Trajectory, PyTree[Array] | None]:
        """Add what is measured of the optimizer to its observables.

        Args:
            discrete: the optimizer's trajectory, or the next piece of it.
            potential: the loss.
            state: where the measurement along the midpoints stands; None at the start.

        Returns:
            The trajectory, and where that measurement stands after it.
        """
        if self.half_differences:
            measured = oscillation.half_differences(discrete)
            discrete = _with(discrete, measured, oscillation.HALF_DIFFERENCE)
        if any(path == "iterates" for path, _ in self.starts):
            measured = oscillation.half_difference_lengths(discrete)
            discrete = _with(discrete, measured, oscillation.HALF_DIFFERENCE_LENGTH)
        if self.midpoint_measurements:
            measured, described, state = oscillation.measure_midpoints(
                self.midpoint_measurements, potential, discrete, state
            )
            discrete = _with(discrete, measured, described)
        return discrete, state

    def flow(
        self,
        flow: flows.Trajectory,
        discrete: flows.Trajectory | None,
        first_points: Mapping[Start, Params],
        first_step: int,
    ) -> flows.Trajectory:
        """Add to a flow's observables how it compares with the optimizer; drop its directions.

        Args:
            flow: the flow's trajectory, or the next piece of it.
            discrete: the optimizer's over the same steps; None if it stopped earlier.
            first_points: where each path starts.
            first_step: the optimizer's step at which the flow begins.
        """
        described = dict(flow.variables)
        if flow.midpoint is not None:
            begun: dict[Path, Params] = {
                path: point for (path, step), point in first_points.items() if step == first_step
            }
            measured = distances.distances(flow, discrete, begun)
            flow = _with(flow, measured, {name: METADATA[name] for name in measured})
        if _has_directions(described):
            measured = oscillation.measured_variances(flow, discrete)
            flow = _with(flow, measured, oscillation.variances_metadata(described))
            bare = {k: v for k, v in flow.observables.items() if k != oscillation.DIRECTIONS}
            flow = dataclasses.replace(flow, observables=bare)
        return flow


def planned(
    optimizer: flows.AbstractOptimizer,
    models: Sequence[flows.AbstractFlow],
    measurements: Sequence[flows.AbstractMeasurement],
) -> Comparison:
    """Choose what is measured of a run, which depends on the flows that are in it.

    Args:
        optimizer: the optimizer. With momentum a rod lies in a phase space that the iterates do
            not give, so that their half-differences are measured only without.
        models: the flows.
        measurements: what is measured along each trajectory.
    """
    rods = any(isinstance(flow, flows.RodFlow) for flow in models)
    variances = any(_has_directions(flow.variables) for flow in models)
    return Comparison(
        frozenset(start for flow in models for start in distances.starts(flow)),
        rods and isinstance(optimizer, flows.GradientDescent),
        oscillation.midpoint_measurements(measurements) if variances else (),
    )


def _has_directions(variables: Mapping[str, flows.Variable]) -> bool:
    return {"variances", oscillation.DIRECTIONS} <= variables.keys()


def _with(
    trajectory: flows.Trajectory, values: Observables, described: Mapping[str, flows.Variable]
) -> flows.Trajectory:
    return dataclasses.replace(
        trajectory,
        observables={**trajectory.observables, **values},
        variables=tuple({**dict(trajectory.variables), **described}.items()),
    )
