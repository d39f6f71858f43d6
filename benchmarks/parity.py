"""What the parity flow costs: in gradients at a given error, to compile, and in memory."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from flows import (
    CentralFlow,
    GradientDescent,
    ParityFlow,
    PartwiseController,
    iterate,
    simulate,
    tracking_error,
)
from potentials import SupervisedPotential

from .memory import planned_bytes
from .problems import LEARNING_RATE, demo_network, digits_network
from .rows import Measured, row
from .timing import compile_seconds

_STEPS = 1000


def _gradients(target_error: float, order: int, rtol: float, until: int) -> Measured:
    """Count the gradients of the demo from step 10 on per optimizer step, with each step saved."""
    with jax.enable_x64(True):
        potential, params = demo_network()
        potential, params = (
            jax.tree.map(
                lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, t
            )
            for t in (potential, params)
        )
        optimizer = GradientDescent(LEARNING_RATE)
        flow = ParityFlow(optimizer, order, remainder_every=_STEPS)
        controller = PartwiseController(rtol)
        found = simulate(
            flow, potential, params, until, measurements=(), stepsize_controller=controller
        )
        discrete = iterate(optimizer, potential, params, until, measurements=())
        error = float(tracking_error(found, discrete))
        gradients = float(found.stats["gradient_evaluations"]) / (until - flow.first_step)
        details = {"tracking error": error, "allowed error": target_error}
        # A count at a worse error is none.
        return Measured(gradients if error <= target_error else float("inf"), details)


@row(
    "parity-draft",
    target=5,
    compares="gradients of ParityFlow(order 2) per optimizer step at a tracking error of .0065 or "
    "less; demo network in float64, steps 10-1000",
)
def draft() -> Measured:
    """The error of the solver may be as large as twice that of the flow."""
    return _gradients(0.0065, 2, 1e-3, _STEPS)


@row(
    "parity-default",
    target=12,
    compares="the same at a tracking error of .0035 or less",
)
def default() -> Measured:
    """The tolerance is the flow's own."""
    return _gradients(0.0035, 2, 1e-4, _STEPS)


@row(
    "parity-before",
    target=3,
    compares="the same before the edge, steps 10-60",
)
def before_the_edge() -> Measured:
    """The sharpness is below 2/eta and rising."""
    return _gradients(0.0065, 2, 8e-2, 60)


@row(
    "parity-compile",
    target=1 / 3,
    compares="processor seconds to compile the first 300 steps of ParityFlow(order 2) / of "
    "CentralFlow(rank 3), demo network",
)
def compile_time() -> Measured:
    """Time tracing and compilation of the whole run."""
    potential, params = demo_network()
    optimizer = GradientDescent(LEARNING_RATE)

    def compiled(flow: ParityFlow | CentralFlow) -> float:
        return compile_seconds(
            lambda: simulate(flow, potential, params, 300, measurements=()).params
        )

    central = compiled(CentralFlow(optimizer, rank=3))
    parity = compiled(ParityFlow(optimizer))
    return Measured(parity / central, {"parity s": parity, "central s": central})


@row(
    "parity-memory",
    target=14,
    compares="memory of 10 steps of ParityFlow(order 2) beyond a gradient's / vector, P = 994570",
)
def memory() -> Measured:
    """Divide the bytes of the program's temporaries and results by those of one vector."""
    potential, params = digits_network((64, 960, 960, 10), examples=200)
    flat, _ = ravel_pytree(params)

    def run(potential: SupervisedPotential, params: PyTree[Array]) -> PyTree[Array]:
        flow = ParityFlow(GradientDescent(0.01))
        return simulate(flow, potential, params, 20, save_every=10, measurements=()).state.flow

    needed = planned_bytes(run, potential, params)
    gradient = planned_bytes(lambda potential, w: jax.grad(potential)(w), potential, params)
    return Measured(
        (needed - gradient) / flat.nbytes,
        {"MiB": needed / 2**20, "gradient MiB": gradient / 2**20, "parameters": float(flat.size)},
    )
