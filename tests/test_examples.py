"""The examples run, from Python and from a config, and the user's flow does what it promises."""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import flows
from experiments import load
from experiments.cli import main
from tests.helpers import assert_trees_close

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def transformer():
    """The example's module, imported as `python examples/transformer.py` would."""
    spec = importlib.util.spec_from_file_location(
        "example_transformer", EXAMPLES / "transformer.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# The transformer compiles for a minute: in its place a bowl where gradients are clipped too.
BOWL = "potential={kind='quadratic', spectrum=[3.0, 1.0], start=[2.0, 2.0]}"


@pytest.mark.parametrize(
    "potential",
    [
        pytest.param([BOWL], id="bowl"),
        pytest.param(
            ["potential.modulus=3", "potential.width=4"], id="transformer", marks=pytest.mark.slow
        ),
    ],
)
def test_its_config_runs_with_the_file_imported(potential, tmp_path, capsys):
    """Potential, optimizer and flow are the user's, named in TOML, imported on the command line."""
    words = ["--import", str(EXAMPLES / "transformer.py"), "--out", str(tmp_path / "run")]
    settings = ["steps=4", "curvature.every=4", *potential]
    words += ["--no-figures", *(word for one in settings for word in ("--set", one))]
    assert main(["run", str(EXAMPLES / "transformer.toml"), *words]) == 0, capsys.readouterr().err
    tree = load(tmp_path / "run")
    speed = tree["clipped_gradient"]["speed"].values
    assert speed.shape == (5,)
    assert (speed <= 0.3 * (1 + 1e-6)).all()
    assert float(tree["clipped_gradient"]["distance"][-1]) < 0.3


@pytest.mark.slow
def test_the_flow_of_the_example_is_fast_only_as_far_as_it_is_clipped(transformer):
    """On |w|^2 / 2 the distance to 0 falls by eta c per step while |w| > c, and then decays."""
    rate, bound, start = 0.1, 0.5, jnp.asarray([1.2, 1.6])
    flow = transformer.ClippedGradientFlow(transformer.ClippedGradientDescent(rate, bound))
    run = flows.simulate(flow, lambda w: 0.5 * jnp.sum(w**2), start, 60)
    length = jnp.linalg.norm(run.params, axis=1)
    time = jnp.arange(61.0)
    exact = jnp.where(time <= 30, 2 - rate * bound * time, bound * jnp.exp(-rate * (time - 30)))
    # The solver's relative tolerance is 1e-8 a step; the kink at |w| = c costs it two digits.
    assert_trees_close(length, exact, rtol=1e-6, atol=1e-6)
    assert_trees_close(run.observables["speed"], rate * jnp.minimum(exact, bound), 1e-6, 1e-6)


def test_its_optimizer_is_optaxs_chain(transformer):
    """It is `optax.clip_by_global_norm` followed by `optax.sgd`, to rounding, step by step."""
    import optax

    loss = transformer.ModularAddition(modulus=3, width=4)
    chain = optax.chain(optax.clip_by_global_norm(0.2), optax.sgd(0.3))
    optimizer = transformer.ClippedGradientDescent(0.3, 0.2)

    # In one program, of which the gradient takes seconds to compile.
    @jax.jit
    def steps(params):
        own = optimizer.params(optimizer.step(optimizer.init(params), loss))
        updates, _ = chain.update(jax.grad(loss)(params), chain.init(params), params)
        return own, optax.apply_updates(params, updates)

    params = loss.init(jax.random.key(1))
    for _ in range(10):
        own, theirs = steps(params)
        assert_trees_close(own, theirs, 1e-10, 1e-12)
        params = own
