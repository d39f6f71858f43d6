"""How the checks move a state: by a step of an optimizer, or a short fixed one of its flow."""

from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
from jax import lax

import flows
from flows import Potential

# Rates are up to 4 per step of the optimizer, and Tsit5 is stable to about 3 over one of its own.
SUBSTEP = 0.25

State = TypeVar("State")


def optimizer_step(
    optimizer: flows.AbstractOptimizer, potential: Potential
) -> Callable[[State], State]:
    """Return the optimizer's step on a potential, a map of its state."""
    return lambda state: optimizer.step(state, potential)


def flow_step(flow: flows.AbstractFlow, potential: Potential) -> Callable[[State], State]:
    """Return the advance of a flow's state by the time `SUBSTEP`, one step of Tsit5.

    A fixed step has the flow's fixed points, and makes no error where a rate is zero: both are what
    the checks ask for.
    """

    def field(t: Any, state: Any, args: Any) -> Any:
        return flow.vector_field(t, state, args)

    solver, term = diffrax.Tsit5(), diffrax.ODETerm(field)

    def step(state: State) -> State:
        begun = solver.init(term, 0.0, SUBSTEP, state, potential)
        return solver.step(term, 0.0, SUBSTEP, state, potential, begun, False)[0]

    return step


def repeated(move: Callable[[State], State], state: State, times: int) -> State:
    """Return the state after that many moves, which are compiled once."""
    return lax.fori_loop(0, times, lambda _, state: move(state), state)
