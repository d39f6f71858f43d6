"""What Central Flow costs: in gradient-descent steps, to compile, and in memory."""

import time

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from flows import AbstractOptimizer, CentralFlow, GradientDescent, RMSProp, simulate
from potentials import MLP, SupervisedPotential, load_digits, mse

from .memory import planned_bytes
from .problems import LEARNING_RATE, demo_network, descend, digits_network
from .rows import Measured, row
from .timing import interleaved

_RANK = 3


def _per_step(before: int, steps: int) -> Measured:
    """Measure `steps` steps after the first `before` ones, with every step saved."""
    potential, params = demo_network()
    flow = CentralFlow(GradientDescent(LEARNING_RATE), rank=_RANK)

    def run(state, count):
        start = params if state is None else None
        return simulate(flow, potential, start, count, state=state, measurements=())

    state = run(None, before).state if before else None

    times = interleaved(
        {"step": lambda: descend(potential, params, steps), "flow": lambda: run(state, steps)}
    )
    found = run(state, steps)
    return Measured(
        times["flow"] / times["step"],
        {
            "step ms": 1e3 * times["step"] / steps,
            "flow ms": 1e3 * times["flow"] / steps,
            "gradient-equivalents per step": float(found.stats["gradient_equivalents"]) / steps,
            "solver steps per step": float(found.stats["solver_steps"]) / steps,
            "smallest critical rank": float(jnp.min(found.observables["critical_rank"])),
        },
    )


@row(
    "central-before",
    target=30,
    compares="a step of CentralFlow(rank 3), saved / of gradient descent; demo network, steps 8-28",
)
def before_the_edge() -> Measured:
    """The sharpness is below 2/eta and rising."""
    return _per_step(8, 20)


@row(
    "central-edge",
    target=80,
    compares="a step of CentralFlow(rank 3), saved / of gradient descent; demo network, "
    "steps 150-300, three critical",
)
def at_the_edge() -> Measured:
    """Three eigenvalues are at 2/eta."""
    return _per_step(150, 150)


def _gradients_at_the_edge(optimizer: AbstractOptimizer, before: int) -> tuple[float, float]:
    """Return gradient-equivalents per step in 100 steps after `before`, and the fewest critical."""
    potential, params = demo_network()
    flow = CentralFlow(optimizer, rank=5)
    options = {"save_every": 20, "measurements": ()}
    state = simulate(flow, potential, params, before, **options).state
    found = simulate(flow, potential, None, 100, state=state, **options)
    fewest = float(jnp.min(found.observables["critical_rank"]))
    return float(found.stats["gradient_equivalents"]) / 100, fewest


@row(
    "central-rmsprop",
    target=1.4,
    compares="gradient-equivalents a step of CentralFlow(rank 5) of RMSProp / of gradient descent; "
    "demo network, 100 steps with four critical",
)
def of_rmsprop() -> Measured:
    """Count what both evaluate where as many eigenvalues are at the threshold."""
    adaptive, ranks = _gradients_at_the_edge(RMSProp(5e-4, bias_correction=True), 500)
    plain, others = _gradients_at_the_edge(GradientDescent(LEARNING_RATE), 200)
    return Measured(
        adaptive / plain,
        {
            "of RMSProp": adaptive,
            "of gradient descent": plain,
            "fewest critical": min(ranks, others),
        },
    )


@row(
    "central-compile",
    target=15,
    compares="seconds of the first 300 steps of CentralFlow(rank 3), demo network, less the second",
)
def compile_time() -> Measured:
    """Time tracing and compilation of the whole run, on the cores of this machine."""
    potential, params = demo_network()
    jax.clear_caches()

    def run():
        start = time.perf_counter()
        flow = CentralFlow(GradientDescent(LEARNING_RATE), rank=_RANK)
        found = simulate(flow, potential, params, 300, measurements=())
        jax.block_until_ready(found.params)
        return time.perf_counter() - start

    first, second = run(), run()
    return Measured(first - second, {"first s": first, "second s": second})


@row(
    "central-memory",
    target=80,
    compares="memory of 4 steps of CentralFlow(rank 4) beyond a gradient's / vector, P = 994570",
)
def memory() -> Measured:
    """Divide the bytes of the program's temporaries and results by those of one vector."""
    potential, params = digits_network((64, 960, 960, 10), examples=200)
    flat, _ = ravel_pytree(params)

    def run(potential, params):
        flow = CentralFlow(GradientDescent(0.01), rank=4)
        return simulate(flow, potential, params, 4, save_every=4, measurements=()).state.flow

    needed = planned_bytes(run, potential, params)
    gradient = planned_bytes(lambda potential, w: jax.grad(potential)(w), potential, params)
    return Measured(
        (needed - gradient) / flat.nbytes,
        {"MiB": needed / 2**20, "gradient MiB": gradient / 2**20, "parameters": float(flat.size)},
    )


@row(
    "central-memory-examples",
    target=1.1,
    compares="memory of 4 steps of CentralFlow(rank 4) beyond a gradient's with 1,797 examples / "
    "with 500, of which 100 are evaluated at a time; P = 85002",
)
def memory_by_examples() -> Measured:
    """What the activations of a few examples need does not grow with their number."""

    def needed(examples: int) -> float:
        data, key = load_digits(examples), jax.random.key(0)
        potential = SupervisedPotential(
            MLP((64, 256, 256, 10), key=key), data.inputs, data.targets, mse, chunk_size=100
        )
        params = potential.init(key)

        def run(potential, params):
            flow = CentralFlow(GradientDescent(0.01), rank=4)
            return simulate(flow, potential, params, 4, save_every=4, measurements=()).state.flow

        own = planned_bytes(run, potential, params)
        gradient = planned_bytes(lambda potential, w: jax.grad(potential)(w), potential, params)
        return (own - gradient) / ravel_pytree(params)[0].nbytes

    all_examples, fewer = needed(1797), needed(500)
    return Measured(all_examples / fewer, {"vectors, 1797": all_examples, "vectors, 500": fewer})
