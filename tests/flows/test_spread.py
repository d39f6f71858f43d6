"""Parameters that are spread over devices: the numbers of one device, and a part of its memory."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flows import Curvature, GradientDescent, GradientFlow, ParityFlow, iterate, simulate
from tests.helpers import assert_trees_close

DEVICES = 4
SPREAD = {
    "first": PartitionSpec(None, "model"),
    "bias": PartitionSpec("model"),
    "last": PartitionSpec("model", None),
}
OPTIMIZER = GradientDescent(0.01)
OPTIONS = {"save_every": 10, "measurements": ()}
RUNS = {
    "descent": lambda loss, w: iterate(OPTIMIZER, loss, w, 20, **OPTIONS),
    "gradient flow": lambda loss, w: simulate(GradientFlow(OPTIMIZER), loss, w, 20, **OPTIONS),
    "parity flow": lambda loss, w: simulate(ParityFlow(OPTIMIZER), loss, w, 20, **OPTIONS),
    "curvature": lambda loss, w: iterate(
        OPTIMIZER, loss, w, 20, save_every=10, measurements=Curvature(2)
    ),
}


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a network with one hidden layer."""
    return {"first": (6, width), "bias": (width,), "last": (width, 3)}


def loss(params):
    """Of the network at seven fixed points."""
    dtype = params["bias"].dtype
    inputs = jnp.linspace(-1, 1, 42, dtype=dtype).reshape(7, 6)
    hidden = jnp.tanh(jnp.matmul(inputs, params["first"]) + params["bias"][None])
    return jnp.mean(jnp.square(jnp.matmul(hidden, params["last"]) - 1))


def shardings(devices: int) -> dict[str, NamedSharding]:
    """How the parameters lie on the first devices."""
    mesh = jax.make_mesh(
        (devices,), ("model",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return {name: NamedSharding(mesh, spec) for name, spec in SPREAD.items()}


# Devices of a CPU wait for each other in threads, of which two find a core.
@pytest.mark.parametrize(
    "kind",
    ["descent", *(pytest.param(k, marks=pytest.mark.slow) for k in [*RUNS][1:])],
)
def test_a_run_gives_the_numbers_of_one_device_where_its_parameters_lie(kind):
    """And leaves what it returns there."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        name: 0.5 * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes(64).items(), strict=True)
    }
    spread = jax.device_put(params, shardings(2))
    one, found = RUNS[kind](loss, params), RUNS[kind](loss, spread)
    # Sums in another order: their rounding, as the solver passes it on to the length of its steps.
    assert_trees_close(found.params, one.params, rtol=1e-8, atol=1e-10)
    assert_trees_close(
        found.observables.get("sharpness"), one.observables.get("sharpness"), rtol=1e-9
    )
    for name, saved in found.params.items():
        where = NamedSharding(spread[name].sharding.mesh, PartitionSpec(None, *SPREAD[name]))
        assert saved.sharding.is_equivalent_to(where, saved.ndim), name


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("descent", 0.26),
        pytest.param("gradient flow", 0.3, marks=pytest.mark.slow),
        # It works on vectors of all parameters, and hands the loss each array whole.
        pytest.param("parity flow", 0.55, marks=pytest.mark.slow),
        pytest.param("curvature", 0.35, marks=pytest.mark.slow),
    ],
)
def test_each_device_needs_a_part_of_the_memory(kind, share):
    """As the compiler plans it: a quarter on four devices, and what is shared or gathered."""
    needed = []
    for where in (dict.fromkeys(SPREAD), shardings(DEVICES)):
        params = {
            name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where[name])
            for name, shape in shapes(4096).items()
        }

        def run(params):
            found = RUNS[kind](loss, params)
            return found.params, found.observables

        planned = jax.jit(run).lower(params).compile().memory_analysis()
        needed.append(planned.temp_size_in_bytes + planned.output_size_in_bytes)
    assert needed[1] <= share * needed[0]
