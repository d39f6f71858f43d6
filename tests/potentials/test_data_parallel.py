"""A loss whose examples are spread over devices: the numbers of one device, whatever is asked."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

import flows
import potentials
from experiments import load, run
from tests.experiments.configs import NETWORK, config
from tests.helpers import as_users_run, assert_trees_close

# Five orders of summation of float64 numbers of size one.
ROUNDING = {"rtol": 1e-12, "atol": 1e-13}


def pair(
    examples: int, devices: int, chunk_size: int | None = None, criterion: Any = potentials.mse
) -> tuple[potentials.SupervisedPotential, potentials.DataParallel]:
    """The same loss on one device and on several."""
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.normal(keys[0], (examples, 3))
    targets = jax.nn.one_hot(jax.random.randint(keys[1], (examples,), 0, 2), 2)
    model = potentials.MLP((3, 4, 2), "tanh", True, key=keys[2])
    whole = potentials.SupervisedPotential(model, inputs, targets, criterion, chunk_size)
    return whole, potentials.DataParallel(whole, jax.local_devices()[:devices])


@pytest.mark.parametrize(
    ("examples", "devices", "chunk_size"),
    [pytest.param(9, 4, 2, marks=pytest.mark.slow), (3, 4, None)],
)
def test_all_derivatives_are_those_of_one_device(
    examples: int, devices: int, chunk_size: int | None
) -> None:
    """To rounding: loss, gradient, Hessian-vector products of a block, third derivative."""
    whole, spread = pair(examples, devices, chunk_size)
    assert len(spread.whole.inputs.sharding.device_set) == devices
    params = whole.init(jax.random.key(3))
    flat, unravel = ravel_pytree(params)
    block = jax.random.normal(jax.random.key(4), (2, flat.size))

    @eqx.filter_jit
    def everything(potential: Any, flat: jax.Array) -> Any:
        def loss(flat: jax.Array) -> jax.Array:
            return potential(unravel(flat))

        def along(v: jax.Array) -> Any:
            return jax.jvp(jax.grad(loss), (flat,), (v,))[1]

        def curvature(flat: jax.Array) -> jax.Array:
            return block[0] @ jax.jvp(jax.grad(loss), (flat,), (block[0],))[1]

        products = jax.vmap(along)(block)
        return loss(flat), jax.grad(loss)(flat), products, jax.grad(curvature)(flat)

    assert_trees_close(everything(spread, flat), everything(whole, flat), **ROUNDING)
    assert_trees_close(spread.accuracy(params), whole.accuracy(params), **ROUNDING)
    assert_trees_close(spread.predict(params), whole.predict(params), **ROUNDING)


@pytest.mark.slow
def test_flows_run_on_it() -> None:
    """As on any other potential; the shares are equal without filling up."""
    potentials_ = pair(8, 4)
    params = potentials_[0].init(jax.random.key(3))
    flow = flows.GradientFlow(flows.GradientDescent(1.0))
    whole, spread = (flows.simulate(flow, one, params, 4).params for one in potentials_)
    # The solver's tolerance: rounding may change where it steps.
    assert_trees_close(spread, whole, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_a_config_chooses_it_and_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    """`data_parallel = true`, in single precision."""
    numbers = {}
    for parallel in (False, True):
        potential = {**NETWORK["potential"], "data_parallel": parallel}
        base = {**NETWORK, "potential": potential, "flows": [], "steps": 8}
        del base["curvature"]
        path = tmp_path / str(parallel)
        if parallel:
            run(config(base, steps=4), path, draw=False, progress=False)
        run(config(base), path, resume=True, draw=False, progress=False)
        numbers[parallel] = load(path)["discrete"].to_dataset()
    for name in ("loss", "gradient_norm", "accuracy"):
        # Eight steps of rounding in single precision.
        assert_trees_close(numbers[True][name].values, numbers[False][name].values, rtol=1e-5)


def test_what_it_is_made_of_is_checked() -> None:
    """A potential of data, and devices."""
    message = "must be a SupervisedPotential, got a Quartic"
    with as_users_run(), pytest.raises(ValueError, match=message):
        potentials.DataParallel(potentials.Quartic(1.0, 1.0))  # pyright: ignore[reportArgumentType]
    whole, _ = pair(3, 1)
    with pytest.raises(ValueError, match="devices must be at least one"):
        potentials.DataParallel(whole, [])
    assert jnp.shape(whole.inputs) == (3, 3)
