"""Settings that every test runs under: double precision, strict promotion, seeded randomness."""

import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import matplotlib
import pytest

jax.config.update("jax_enable_x64", True)
# Devices of the one CPU, for what is spread over several; all else runs on the first.
jax.config.update("jax_num_cpu_devices", 4)
# A silent promotion is how a float32 run turns into float64, and an (n,) into an (n, n).
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Where each operation of a program comes from: to write it down takes a twentieth of the time.
jax.config.update("jax_traceback_in_locations_limit", 0)
matplotlib.use("Agg")
# Tracing makes many small objects that live on: looking through them all so often takes a tenth of
# the time.
gc.set_threshold(200_000, 20, 100)

# The first call of an example compiles, so a deadline per example would only measure that.
hypothesis.settings.register_profile(
    "deterministic", derandomize=True, deadline=None, max_examples=20, database=None
)
hypothesis.settings.load_profile("deterministic")


def pytest_addoption(parser: pytest.Parser) -> None:
    """A share of the slow tests, which are too many to run all at each change."""
    parser.addoption(
        "--slow-share",
        metavar="K/N",
        help="of the tests marked slow, run every N-th from the K-th on (K is taken modulo N)",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the slow tests leave the share that was asked for."""
    share = config.getoption("--slow-share")
    if share is not None:
        first, shares = (int(number) for number in share.split("/"))
        slow = [item for item in items if item.get_closest_marker("slow")]
        left_out = {*slow} - {*slow[first % shares :: shares]}
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]


# Every compiled program maps memory, and Linux lets a process have 65,530 mappings.
_MAPPINGS = 10_000


def _mappings() -> int:
    """How many pieces of memory this process has mapped; where that is not known, too many."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return _MAPPINGS + 1


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """Free what was compiled once it is much: until then files share their small programs."""
    yield
    if _mappings() > _MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that gives a new PRNG key at each call, the same sequence in every test."""
    seeds = itertools.count()
    return lambda: jax.random.key(next(seeds))


@pytest.fixture
def float32() -> Iterator[None]:
    """Run the test in single precision, and restore what was set before."""
    with jax.enable_x64(False):
        yield
