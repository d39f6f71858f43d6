"""What Rod Flow costs: in gradient-descent steps, and in memory."""

import jax
from jax.flatten_util import ravel_pytree

from flows import GradientDescent, RodFlow, simulate

from .memory import planned_bytes
from .problems import LEARNING_RATE, demo_network, descend, digits_network
from .rows import Measured, row
from .timing import interleaved

_RANK = 2
_BEFORE = 150
_STEPS = 100


@row(
    "rod-edge",
    target=60,
    compares="a step of RodFlow(rank 2), saved with alignment / of gradient descent; demo network, "
    "steps 150-250, at the edge",
)
def at_the_edge() -> Measured:
    """Time two rods at the edge of stability, with every step and all observables saved."""
    potential, params = demo_network()
    flow = RodFlow(GradientDescent(LEARNING_RATE), _RANK)
    state = simulate(flow, potential, params, _BEFORE, measurements=()).state

    def run():
        return simulate(flow, potential, None, _STEPS, state=state, measurements=())

    times = interleaved({"step": lambda: descend(potential, params, _STEPS), "flow": run})
    stats = run().stats
    return Measured(
        times["flow"] / times["step"],
        {
            "step ms": 1e3 * times["step"] / _STEPS,
            "flow ms": 1e3 * times["flow"] / _STEPS,
            "gradient-equivalents per step": float(stats["gradient_equivalents"]) / _STEPS,
            "solver steps per step": float(stats["solver_steps"]) / _STEPS,
            "rejected steps per step": float(stats["rejected_steps"]) / _STEPS,
        },
    )


def _vectors(rank: int) -> Measured:
    potential, params = digits_network((64, 960, 960, 10), examples=200)
    flat, _ = ravel_pytree(params)

    def run(potential, params):
        flow = RodFlow(GradientDescent(0.01), rank)
        return simulate(flow, potential, params, 4, save_every=4, measurements=()).state.flow

    needed = planned_bytes(run, potential, params)
    gradient = planned_bytes(lambda potential, w: jax.grad(potential)(w), potential, params)
    return Measured(
        (needed - gradient) / flat.nbytes,
        {"MiB": needed / 2**20, "gradient MiB": gradient / 2**20, "parameters": float(flat.size)},
    )


@row(
    "rod-memory-1",
    target=24,
    compares="memory of 4 steps of RodFlow(rank 1) beyond a gradient's / vector, P = 994570",
)
def memory_of_one_rod() -> Measured:
    """Divide the bytes of the program's temporaries and results by those of one vector."""
    return _vectors(1)


@row(
    "rod-memory-3",
    target=48,
    compares="memory of 4 steps of RodFlow(rank 3) beyond a gradient's / vector, P = 994570",
)
def memory_of_three_rods() -> Measured:
    """Divide the bytes of the program's temporaries and results by those of one vector."""
    return _vectors(3)
