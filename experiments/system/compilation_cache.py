"""Compiled programs that later calls of the command line find again: JAX's persistent cache."""

import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SWITCH: Final = "EOSFLOWS_CACHE"
"""The environment variable that names another folder for the programs, or is `off`."""

LARGEST: Final = 1 << 30
"""What the folder may hold, in bytes; JAX removes what was not used for longest."""

_OFF: Final = ("off", "0", "false", "no")


def cache_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that turn the cache on, but for those that are set already.

    JAX reads them when it is imported, and so do the processes that a sweep starts.

    Args:
        environment: The variables that are set.
    """
    wanted = environment.get(SWITCH, "").strip()
    if wanted.lower() in _OFF or "JAX_COMPILATION_CACHE_DIR" in environment:
        return {}
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(_folder(wanted)),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(LARGEST),
        # To find a small program takes a fifth of the time to compile it.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # By default equinox calls back into Python where a check fails (equinox 0.13.8), and JAX
        # stores no program that does (jax 0.10.2). diffrax checks each solve's times, which are
        # right here; a check of the user's own makes the values nan, at which a run stops.
        "EQX_ON_ERROR": "nan",
    }
    return {name: value for name, value in settings.items() if name not in environment}


def use_compilation_cache() -> None:
    """Turn the cache on for this process and those that it starts, if JAX is not imported yet."""
    if "jax" in sys.modules:
        return
    settings = cache_settings(os.environ)
    folder = settings.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if SWITCH in os.environ:
            warnings.warn(
                f"{SWITCH}: compiled programs are not kept, since {folder} cannot be made: "
                f"{error.strerror}",
                stacklevel=2,
            )
        return
    os.environ.update(settings)


def _folder(wanted: str) -> Path:
    """Return the folder for this kind of processor: programs for one may not run on another."""
    if wanted:
        base = Path(wanted).expanduser()
    else:
        import platformdirs

        base = platformdirs.user_cache_path("eosflows", appauthor=False) / "programs"
    return base / f"{platform.machine()}-{hashlib.sha256(_processor()).hexdigest()[:12]}"


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    described = (b"model name", b"flags", b"Features")
    return b"\n".join(sorted({line for line in lines if line.startswith(described)}))
