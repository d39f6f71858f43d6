"""What a user waits for: compilation, beyond that of gradient descent, and a first experiment."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from flows import AbstractFlow, CentralFlow, GradientDescent, RodFlow, simulate
from flows.core.potential import Potential

from .problems import LEARNING_RATE, demo_network, descend
from .rows import Measured, row
from .timing import compile_seconds

_STEPS = 300
_ROOT = Path(__file__).parent.parent

# Of `eosflows run valley` before its programs became fewer and smaller, without any cache.
_VALLEY_BEFORE = 29.0


class _Block(eqx.Module):
    """Attention and an MLP, each with a normalization before it and a residual around it."""

    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, width: int, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.norms = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(2, width, key=first)
        self.mlp = eqx.nn.MLP(width, width, 2 * width, 1, jax.nn.gelu, key=second)

    def __call__(self, x: Float[Array, "place width"]) -> Float[Array, "place width"]:
        normed = jax.vmap(self.norms[0])(x)
        x = x + self.attention(normed, normed, normed)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norms[1])(x))


class _OnTokens(eqx.Module):
    """Cross-entropy of a transformer's answers to sequences of tokens; params are its arrays."""

    tokens: Int[Array, "sequence place"]
    answers: Int[Array, " sequence"]
    static: PyTree[object]

    def __call__(self, params: PyTree[Array]) -> Float[Array, ""]:
        network = eqx.combine(params, self.static)

        def logits(sequence: Int[Array, " place"]) -> Float[Array, " answer"]:
            x = network["tokens"][sequence]
            for block in network["blocks"]:
                x = block(x)
            return x[-1] @ network["answer"]

        log_likelihood = jax.nn.log_softmax(jax.vmap(logits)(self.tokens))
        return -jnp.mean(jnp.take_along_axis(log_likelihood, self.answers[:, None], axis=1))


def transformer() -> tuple[Potential, PyTree[Array]]:
    """Return the cross-entropy of a transformer of two blocks on random tokens, and a start."""
    vocabulary, places, width = 16, 8, 32
    keys = jax.random.split(jax.random.key(0), 6)
    tokens = jax.random.randint(keys[0], (64, places), 0, vocabulary)
    answers = jax.random.randint(keys[1], (64,), 0, vocabulary)
    params = {
        "tokens": jax.random.normal(keys[2], (vocabulary, width)),
        "blocks": (_Block(width, keys[3]), _Block(width, keys[4])),
        "answer": jax.random.normal(keys[5], (width, vocabulary)) / jnp.sqrt(width),
    }
    params, static = eqx.partition(params, eqx.is_inexact_array)
    return _OnTokens(tokens, answers, static), params


def _beside_descent(
    flow: AbstractFlow, problem: tuple[Potential, PyTree[Array]], steps: int
) -> tuple[float, float]:
    """Return the seconds to compile a flow, and to compile gradient descent."""
    potential, params = problem
    descent = compile_seconds(lambda: descend(potential, params, steps))
    own = compile_seconds(lambda: simulate(flow, potential, params, steps, measurements=()).params)
    return own, descent


def _flow(name: str) -> AbstractFlow:
    optimizer = GradientDescent(LEARNING_RATE)
    return CentralFlow(optimizer, rank=3) if name == "central" else RodFlow(optimizer, rank=2)


def _on_digits(name: str) -> Measured:
    own, descent = _beside_descent(_flow(name), demo_network(), _STEPS)
    return Measured(own - descent, {"flow s": own, "descent s": descent})


def _on_a_transformer(name: str) -> Measured:
    own, descent = _beside_descent(_flow(name), transformer(), 4)
    return Measured(own / descent, {"flow s": own, "descent s": descent})


@row(
    "compile-central",
    target=6,
    compares="processor seconds to compile 300 steps of CentralFlow(rank 3) beyond those of "
    "gradient descent; demo network",
)
def central() -> Measured:
    """Time tracing and compilation of the whole run."""
    return _on_digits("central")


@row("compile-rod", target=5, compares="the same of RodFlow(rank 2)")
def rod() -> Measured:
    """Time tracing and compilation of the whole run."""
    return _on_digits("rod")


@row(
    "compile-central-transformer",
    target=3,
    compares="processor seconds to compile CentralFlow(rank 3) / gradient descent; a transformer "
    "of two blocks",
)
def central_on_a_transformer() -> Measured:
    """The loss stands in several places of the flow's program, and in one of descent's."""
    return _on_a_transformer("central")


@row("compile-rod-transformer", target=3, compares="the same of RodFlow(rank 2)")
def rod_on_a_transformer() -> Measured:
    """The loss stands in several places of the flow's program, and in one of descent's."""
    return _on_a_transformer("rod")


def _processor_seconds_of_valley(cache: Path) -> float:
    """Run `eosflows run valley` in a process of its own, with a cache folder of its own."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "XDG_CACHE_HOME": str(cache)}
    for name in ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR"):
        environment.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", "valley", "--out", f"{folder}/valley"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", f"from experiments.cli import main; main({command!r})"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _valley(runs: int) -> Measured:
    with tempfile.TemporaryDirectory() as cache:
        seconds = [_processor_seconds_of_valley(Path(cache)) for _ in range(runs)]
    return Measured(seconds[-1] / _VALLEY_BEFORE, {"s": seconds[-1]})


@row(
    "valley-first",
    target=1 / 3,
    compares="processor seconds of `eosflows run valley` without a cache / 29 s, what it took once",
)
def first_valley() -> Measured:
    """Everything is compiled, with the figure drawn at the end."""
    return _valley(1)


@row("valley-second", target=1 / 5, compares="the same with the cache that the first run filled")
def second_valley() -> Measured:
    """Compiled programs are read from the folder of the first run."""
    return _valley(2)
