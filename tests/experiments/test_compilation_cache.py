"""The command line's cache of compiled programs."""

import os
import subprocess
import sys

import pytest

from experiments.system.compilation_cache import LARGEST, SWITCH, cache_settings


def test_it_is_on_by_default_in_the_users_folder_and_bounded(monkeypatch, tmp_path):
    """Its folder is the user's, and JAX bounds what it holds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = cache_settings({})
    assert settings["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path / "eosflows"))
    assert settings["JAX_COMPILATION_CACHE_MAX_SIZE"] == str(LARGEST)


@pytest.mark.parametrize("word", ["off", "OFF", "0", "false", "no"])
def test_it_can_be_switched_off(word):
    """By the environment variable."""
    assert cache_settings({SWITCH: word}) == {}


def test_it_goes_where_the_switch_says(tmp_path):
    """A folder in the variable is used in place of the user's."""
    settings = cache_settings({SWITCH: str(tmp_path)})
    assert settings["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path))


def test_what_the_user_set_for_jax_or_equinox_stays():
    """Variables of other libraries that are set already win."""
    assert cache_settings({"JAX_COMPILATION_CACHE_DIR": "mine"}) == {}
    assert "EQX_ON_ERROR" not in cache_settings({"EQX_ON_ERROR": "raise"})


def _run(cache, out):
    code = (
        "import sys, experiments.system.compilation_cache as cache\n"
        "cache.use_compilation_cache()\n"
        "import jax.monitoring\n"
        "counts = {}\n"
        "def count(name, **_): counts[name] = counts.get(name, 0) + 1\n"
        "jax.monitoring.register_event_listener(count)\n"
        "from experiments.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "for kind in ('hits', 'misses'):\n"
        "    print(kind, counts.get('/jax/compilation_cache/cache_' + kind, 0))\n"
        "sys.exit(code)\n"
    )
    environment = {**os.environ, SWITCH: str(cache)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "EQX_ON_ERROR"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "valley", "--set", "steps=4", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("hi", "mi")))
    return int(found["hits"]), int(found["misses"])


@pytest.mark.slow
def test_a_second_run_compiles_nothing(tmp_path):
    """All programs of a run are found again."""
    # The largest program is that of `diffeqsolve`, which equinox's checks would keep out.
    _, compiled = _run(tmp_path / "cache", tmp_path / "first")
    assert compiled > 0
    assert _run(tmp_path / "cache", tmp_path / "second")[1] == 0
