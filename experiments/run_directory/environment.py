"""`environment.json`: versions, device, commit, precision and wall time of a run."""

import datetime
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

from ..config.schema import Config
from ..tables import Experiment, SweepExperiment
from ..tables.plugins import record
from .directory import PROGRAM, read_environment, version, write_environment

_PACKAGES = ("jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray", "zarr")


class EnvironmentFile:
    """`environment.json`, whose wall time adds up over all processes that worked on a run.

    Args:
        path: the run directory.
        config: what runs there.
    """

    def __init__(self, path: Path, config: Config):
        self._path, self._config = path, config
        self._begin = time.perf_counter()
        self._before = read_environment(path)
        self._content: dict[str, Any] = {}

    def start(self) -> None:
        """Describe where this process runs, and write the file."""
        self._content = describe(self._config)
        if "started" in self._before:
            self._content["started"] = self._before["started"]
            self._content["resumed"] = int(self._before.get("resumed", 0)) + 1
        self.write()

    def write(self) -> None:
        """Write the file, with the seconds up to now."""
        earlier = float(self._before.get("wall_time", 0.0))
        seconds = earlier + time.perf_counter() - self._begin
        write_environment(self._path, {**self._content, "wall_time": seconds})


def describe(config: Config) -> dict[str, Any]:
    """Describe where a run takes place, at its start.

    Args:
        config: what is going to run.

    Returns:
        What `environment.json` holds, but for the wall time, in seconds.
    """
    device = jax.devices()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **_of_one_run(config),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "versions": {name: version(name) for name in (PROGRAM, *_PACKAGES)},
        "commit": _commit(),
        "imports": record(config.model_dump()),
    }


def _of_one_run(config: Config) -> dict[str, Any]:
    if isinstance(config, SweepExperiment):
        return {}  # Each of its runs has its own.
    # The seeds of a study, if it has any, are several: they are in its config.
    seed = {"seed": config.seed} if isinstance(config, Experiment) else {}
    origin = getattr(config, "origin", None)
    came_from = {} if origin is None else {"origin": origin.model_dump()}
    return {**seed, **came_from, "precision": config.precision}


def _commit() -> str | None:
    """The commit of the checkout that runs; None for an installed copy or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
