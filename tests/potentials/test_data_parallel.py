"""A loss whose examples are spread over devices: the numbers of one device, whatever is asked."""

import os
import re
import socket
import subprocess
import sys
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


_ONE_OF_TWO = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize("127.0.0.1:" + sys.argv[2], num_processes=2, process_id=int(sys.argv[1]))
import jax.numpy as jnp
import numpy as np
from flows import Curvature, GradientDescent, GradientFlow, LossAndGradient, iterate, simulate
from potentials import MLP, DataParallel, SupervisedPotential, mse
inputs = np.linspace(-1, 1, 27).reshape(9, 3)
network = MLP((3, 4, 2), key=jax.random.key(2))
whole = SupervisedPotential(network, inputs, np.stack([inputs[:, 0], inputs[:, 1] ** 2], 1), mse)
spread = DataParallel(whole, jax.devices())
assert spread.mesh.size == 4 and len(jax.local_devices()) == 2
found = []
for loss in (whole, spread):
    measured = LossAndGradient(), Curvature(2)
    discrete = iterate(GradientDescent(0.5), loss, whole.params, 3, measurements=measured)
    flow = simulate(GradientFlow(GradientDescent(0.5)), loss, whole.params, 3)
    every = discrete.params, discrete.observables, flow.params
    found.append(np.concatenate([np.ravel(np.asarray(x)) for x in jax.tree.leaves(every)]))
print("difference", np.max(np.abs(found[0] - found[1])))
"""


@pytest.mark.slow
def test_two_processes_are_one() -> None:
    """Examples on the devices of two processes: descent, eigenvalues and a flow, to rounding."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_TWO, str(rank), port],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        printed, complaints = process.communicate()
        assert process.returncode == 0, complaints
        (difference,) = re.findall(r"^difference (.*)$", printed, flags=re.MULTILINE)
        # The eigenvalues' tolerance is the largest.
        assert float(difference) < 1e-9
