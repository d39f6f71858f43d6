"""The flows of the panel, a line each: how each is made for a start, and its oscillation's size."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..system.lazy import flows
from .cases import Case

if TYPE_CHECKING:
    Amplitude: TypeAlias = Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Start:
    """What a flow is made from.

    Attributes:
        case: The row of the panel.
        optimizer: The optimizer that starts at step 0.
        resumed: The optimizer that starts at step `case.burn`, with the state that it has there;
            `optimizer` itself if it keeps no state but the parameters, or the flows start at 0.
    """

    case: Case
    optimizer: "flows.AbstractOptimizer"
    resumed: "flows.AbstractOptimizer"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One column of the panel.

    Attributes:
        make: Makes the flow; a ValueError says why it does not apply.
        amplitude: From the flow's observables to the length of the oscillation that it predicts,
            (T,), for an optimizer whose state is its parameters; None where it predicts none.
        integrator: Makes the arguments of `flows.simulate` that say how the flow is integrated, so
            that the solver's error does not count beside the flow's own: by default none, for a
            flow whose own integrator is that accurate in float64.
        published: True if others published it.
    """

    make: "Callable[[Start], flows.AbstractFlow]"
    amplitude: "Amplitude | None" = None
    integrator: Callable[[], dict[str, Any]] = dict
    published: bool = True


def _gradient(start: Start) -> "flows.AbstractFlow":
    # The limit of momentum is a flow on parameters, which starts from those.
    limit = isinstance(start.optimizer, flows.AbstractGradientMethod)
    return flows.GradientFlow(start.optimizer if limit else start.resumed)


def _central(start: Start) -> "flows.AbstractFlow":
    return flows.CentralFlow(start.resumed, rank=start.case.watched)


def _rods(start: Start) -> "flows.AbstractFlow":
    if start.case.rods == 1:
        raise ValueError("the case has one parameter, and so one rod.")
    return flows.RodFlow(start.resumed, rank=start.case.rods, alignment=False)


def _parity(order: int) -> "Callable[[Start], flows.AbstractFlow]":
    def make(start: Start) -> "flows.AbstractFlow":
        options: dict[str, Any] = {"burn": start.case.burn or None}
        if not start.case.burn and isinstance(start.optimizer, flows.AbstractDescent):
            options = {"start": "split"}
        return flows.ParityFlow(start.optimizer, order, **options)

    return make


def _deviation(observables: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.sqrt(observables["variances"].sum(axis=1))


def _rod_length(observables: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.linalg.norm(observables["rod_half_lengths"], axis=1)


def _half_difference(observables: Mapping[str, np.ndarray]) -> np.ndarray:
    return observables["half_difference_length"]


CONTESTANTS = {
    "gradient": Contestant(_gradient),
    "gradient-corrected": Contestant(lambda s: flows.GradientFlow(s.resumed, correction=True)),
    "central": Contestant(_central, _deviation),
    "rod-1": Contestant(lambda s: flows.RodFlow(s.resumed, alignment=False), _rod_length),
    "rod-r": Contestant(_rods, _rod_length),
    "edge": Contestant(lambda s: flows.EdgeFlow(s.optimizer), _half_difference),
    "parity-2": Contestant(_parity(2), _half_difference, published=False),
    "parity-3": Contestant(_parity(3), _half_difference, published=False),
}
"""Every flow by its name, in the order of the panel's columns."""
