"""Compiled programs, of which a process can hold only so many."""

import contextlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from experiments.config.build import build, precision
from experiments.runs import study_task
from experiments.sweep import workers
from experiments.system import programs
from experiments.system.programs import make_room_for_programs
from experiments.validation import checks

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")


@pytest.fixture
def compiled():
    """A function with a compiled program."""
    function = jax.jit(lambda x: 2 * x)
    function(jnp.ones(3))
    assert function._cache_size() == 1
    return function


@contextlib.contextmanager
def noting(kind):
    """The functions that JAX traces or compiles within the block, by name."""
    functions = []

    def listen(event, duration, **details):
        if event.endswith(kind):
            functions.append(str(details.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield functions
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def mappings():
    """How many pieces of memory this process has mapped."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@linux
def test_below_the_share_programs_are_kept(compiled):
    """A process may have all of its mappings."""
    assert not make_room_for_programs(share=1.0)
    assert compiled._cache_size() == 1


@linux
def test_above_the_share_they_are_freed_and_compiled_again_when_used(compiled):
    """What was computed stays what it is."""
    before = compiled(jnp.arange(3.0))
    assert make_room_for_programs(share=0.0)
    assert compiled._cache_size() == 0
    np.testing.assert_array_equal(before, compiled(jnp.arange(3.0)))


@linux
def test_the_mappings_are_given_back():
    """Those of twenty programs, each of which has at least one."""
    make_room_for_programs(share=0.0)
    functions = [jax.jit(lambda x, k=k: jnp.sin(x + k)) for k in range(20)]
    for function in functions:
        function(jnp.ones(3))
    before = mappings()
    assert make_room_for_programs(share=0.0)
    assert mappings() <= before - 20


def test_without_a_limit_nothing_is_freed(compiled, monkeypatch, tmp_path):
    """As on systems without /proc."""
    monkeypatch.setattr(programs, "_MAPPINGS", tmp_path / "nothing")
    assert not make_room_for_programs(share=0.0)
    assert compiled._cache_size() == 1


@linux
def test_a_limit_that_is_hidden_is_linuxs_own(compiled, monkeypatch, tmp_path):
    """As in some containers."""
    monkeypatch.setattr(programs, "_LARGEST", tmp_path / "nothing")
    assert not make_room_for_programs(share=1.0)
    assert make_room_for_programs(share=0.0)
    assert compiled._cache_size() == 0


def test_a_run_compiles_few_programs(tmp_path):
    """Four pieces of gradient descent and a flow: no program for each small operation."""
    config = experiments.load_config("valley", ["steps=8", "checkpoint.every=2", "figures=[]"])
    jax.clear_caches()
    with noting("backend_compile_duration") as compiled:
        experiments.run(config, tmp_path / "run", progress=False)
    # Begin and advance of both, what is compared, and single operations on numbers of the config:
    # the pieces after the first add none. One for each small operation would be sixty.
    assert compiled.count("jit(advance)") == 1
    assert len(compiled) <= 30, compiled


@pytest.mark.parametrize("kind", ["check", "run of a sweep", "part of a study"])
def test_room_is_made_before_each(kind, monkeypatch, tmp_path):
    """Of what one process does many of."""
    module = {"check": checks, "run of a sweep": workers, "part of a study": study_task}[kind]
    calls = []
    monkeypatch.setattr(module, "make_room_for_programs", lambda: calls.append(kind))
    if kind == "check":
        fits = checks.Measured(1.0, 1.0)
        checks.run_check(checks.Check("one", "none", "1", 0.1, lambda: fits))
    elif kind == "run of a sweep":
        # It fails at its config, after room was made for it.
        job = workers.Job(0, "", str(tmp_path / "run"))
        assert workers.run_job(job).message
    else:
        small = experiments.load_config("ball-minima", ["study.points=2001", "study.radii=[0.03]"])
        experiments.run(small, tmp_path / "run", progress=False)
    assert {*calls} == {kind}


def test_the_runs_of_a_sweep_are_built_without_tracing():
    """Ten thousand of them: of what differs in numbers alone, the first is traced."""
    cache = {}

    def built(rate: float) -> None:
        build(experiments.load_config("valley", [f"optimizer.learning_rate={rate}"]), "", cache)

    with precision("float64"):
        built(0.1)
        built(0.2)
        with noting("jaxpr_trace_duration") as traced:
            built(0.3)
    assert traced == []
