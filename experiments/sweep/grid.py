"""The runs of a sweep: every combination of the values of its axes."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config.loader import assign, read_tables, validate, validate_run
from ..config.schema import RunConfig
from ..system.errors import ConfigError, Problem
from ..tables import SweepExperiment
from .over import axis

SUFFIX = "-sweep"
"""What is added to the name of a config without a table `[sweep]` when it is swept."""
# How many problems of the runs' configs are collected; thousands would say no more.
_SHOWN = 5
_LARGEST = np.iinfo(np.int64).max


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        number: counts the runs, the last axis fastest.
        values: of the swept keys, in the axes' order.
        config: of the run.
    """

    number: int
    values: tuple[Any, ...]
    config: RunConfig

    @property
    def label(self) -> str:
        """The name of its folder where it is run by itself."""
        return f"{self.number:05d}"


def load_sweep(
    source: str | Path, overrides: tuple[str, ...] = (), over: tuple[str, ...] = ()
) -> SweepExperiment:
    """Read and validate the config of a sweep.

    Args:
        source: the path of a TOML file, or the name of a built-in experiment.
        overrides: assignments `"a.b=value"`, as for `load_config`.
        over: axes `"KEY=VALUES"`, in place of those in the config's own table `[sweep]`.

    Returns:
        The config. Where it has no table `[sweep]`, its name ends in `-sweep`, so that the
        directory of the sweep is by default not that of a run of the config by itself.

    Raises:
        ConfigError: if it is no config, has no axes, or one of its runs cannot be run.

    Example:
        >>> from experiments import load_sweep
        >>> config = load_sweep("valley", over=("optimizer.learning_rate=0.1,0.2", "seed=0:3"))
        >>> config.name, config.sweep.shape
        ('valley-sweep', (2, 3))
    """
    where, data = read_tables(source, overrides)
    if over:
        if "sweep" not in data and isinstance(data.get("name"), str):
            data["name"] += SUFFIX
        table = data.get("sweep", {})
        axes = [axis(text) for text in over]
        data["sweep"] = {**table, "over": axes} if isinstance(table, dict) else table
    if "sweep" not in data:
        message = "missing; say what to vary: --over KEY=VALUES, as in --over seed=0:10"
        raise ConfigError(where, [Problem("sweep", message)])
    config = validate(data, where)
    assert isinstance(config, SweepExperiment)
    points(config, where)
    return config


def points(config: SweepExperiment, source: str | None = None) -> list[Point]:
    """Return all runs of a sweep, the last axis fastest.

    Args:
        config: the sweep.
        source: what to call it in an error; by default its name.

    Raises:
        ConfigError: if one cannot be run; the message says for which values.
    """
    where = config.name if source is None else source
    axes = config.sweep.over
    values = [one.all_values for one in axes]
    found: list[Point] = []
    problems: list[Problem] = []
    for number, index in enumerate(np.ndindex(*config.sweep.shape)):
        here = tuple(values[depth][place] for depth, place in enumerate(index))
        data = copy.deepcopy(config.base)
        data["name"], data["description"] = config.name, config.description
        try:
            for one, value in zip(axes, here, strict=True):
                assign(data, one.key, value, where)
            if "study" not in data:
                # Of many runs it is measured only if a config asks for it.
                data.setdefault("curvature", {"eigenvalues": 0})
            found.append(Point(number, here, validate_run(data, where)))
        except ConfigError as error:
            problems += [p for p in error.problems if p not in problems]
            if len(problems) >= _SHOWN:
                break
    if problems:
        raise ConfigError(where, problems)
    return found


def coordinates(config: SweepExperiment) -> dict[str, tuple[np.ndarray, dict[str, str]]]:
    """Return the swept values and their attributes by the name of the axis."""
    return {
        name: (_array(axis.all_values), {"units": "as in the config", "long_name": axis.key})
        for name, axis in zip(config.sweep.names, config.sweep.over, strict=True)
    }


def _array(values: tuple[Any, ...]) -> np.ndarray:
    """Numbers as numbers; anything else as text."""
    if all(type(value) is int and abs(value) <= _LARGEST for value in values):
        return np.asarray(values, np.int64)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.asarray(values, float)
    return np.asarray([_text(value) for value in values], object)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)
