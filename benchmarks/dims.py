"""What samples of minima cost: in gradients, and how much mapping over them saves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from flows import MinimaSamples, Potential, sample_minima
from potentials import MLP, Ring, SupervisedPotential, mse

from .rows import Measured, row
from .timing import interleaved

_SAMPLES = 64


def _network() -> tuple[SupervisedPotential, PyTree[Array]]:
    """Return an over-parametrised network at a minimum: its targets are its own predictions."""
    inputs = jax.random.normal(jax.random.key(0), (16, 8))
    model = MLP((8, 32, 1), key=jax.random.key(1))
    targets = jax.vmap(model)(inputs)
    potential = SupervisedPotential(model, inputs, targets, mse)
    return potential, potential.params


def _throw(
    potential: Potential,
    params: PyTree[Array],
    tolerance: float,
    key: PRNGKeyArray,
    samples: int,
) -> MinimaSamples:
    return sample_minima(
        potential,
        params,
        key,
        samples,
        speed=0.2,
        gravity=10.0,
        friction=1.0,
        tolerance=tolerance,
        max_time=50.0,
    )


@row(
    "dims-gradients",
    target=30000,
    compares="gradient-equivalents of one of 512 samples of the ring at rest / 1; default "
    "tolerances of float64, energy 1e-10",
)
def gradients() -> Measured:
    """Count gradients instead of taking times; the slowest sample sets the time of a batch."""
    with jax.enable_x64(True):
        found = _throw(Ring(), jnp.array([1.0, 0.0]), 1e-10, jax.random.key(0), 512)
        spent = np.asarray(found.stats["gradient_equivalents"])
        return Measured(
            float(spent.mean()),
            {
                "most of one sample": float(spent.max()),
                "solver steps": float(np.asarray(found.stats["solver_steps"]).mean()),
                "share at rest": float(np.asarray(found.converged).mean()),
            },
        )


@row(
    "dims-vmap",
    target=0.75,
    compares="seconds of one call of 64 network samples (P = 321) / of 64 calls of one sample",
)
def mapped() -> Measured:
    """Time both once compiled; the network is in float32."""
    potential, params = _network()
    throw = partial(_throw, potential, params, 1e-5)
    keys = list(jax.random.split(jax.random.key(2), _SAMPLES))
    times = interleaved(
        {
            "one call": lambda: throw(jax.random.key(2), _SAMPLES).params,
            "calls": lambda: [throw(key, 1).params for key in keys],
        },
        repeats=3,
    )
    found = throw(jax.random.key(2), _SAMPLES)
    return Measured(
        times["one call"] / times["calls"],
        {
            "one call ms": 1e3 * times["one call"],
            "calls ms": 1e3 * times["calls"],
            "gradient-equivalents per sample": float(
                np.asarray(found.stats["gradient_equivalents"]).mean()
            ),
            "share at rest": float(np.asarray(found.converged).mean()),
        },
    )
