"""Where a run branches off another: what must fit, and the states from which it goes on."""

import dataclasses
from pathlib import Path
from typing import TypeAlias

import equinox as eqx
import jax
import numpy as np
import xarray as xr
from jax import lax
from jaxtyping import Array, Int, PyTree

import flows
from flows.core.trees import strongly_typed
from flows.runs.iterate import IterationState

from ..config.build import Built
from ..config.loader import load_config
from ..run_directory.checkpoint import FINGERPRINT, fingerprint
from ..run_directory.directory import CONFIG
from ..store import layout
from ..store.store import load
from ..system.errors import ConfigError, Problem
from ..tables import Experiment
from .tracks import DISCRETE, FIRST_STEP, Tracks

Map: TypeAlias = tuple[flows.AbstractOptimizer, flows.Potential]
"""An optimizer and the potential that it descends."""


def origin_of(config: Experiment) -> Experiment:
    """Read the config of the run that a run branches off, and check that it has the step.

    Args:
        config: the branch's.

    Raises:
        ConfigError: if there is no such run, or it cannot be branched off at that step.
        DirectoryError: if it has no results.
    """
    assert config.origin is not None
    directory, step = config.origin.directory, config.origin.step
    origin = load_config(Path(directory) / CONFIG)
    if not isinstance(origin, Experiment):
        problem = Problem("origin.directory", f"given {directory!r}; is no run of an experiment")
        raise ConfigError(config.name, [problem])
    noted = load(directory, params=False).attrs.get(FINGERPRINT)
    if noted != fingerprint(origin):
        message = (
            f"given {directory!r}; {CONFIG} there was changed after its results were begun, or "
            "they are of another version"
        )
        raise ConfigError(config.name, [Problem("origin.directory", message)])
    begin = 0 if origin.origin is None else origin.origin.step
    every = origin.save_every
    if step % every or not begin < step <= origin.steps:
        around = (every * (step // every), every * (step // every + 1))
        near = sorted({min(max(one, begin + every), origin.steps) for one in around})
        message = (
            f"given {step}; must be a step that {directory} saves after its start: a multiple of "
            f"{every} from {begin + every} to {origin.steps}, such as {' or '.join(map(str, near))}"
        )
        raise ConfigError(config.name, [Problem("origin.step", message)])
    for key in ("precision", "seed"):
        was, given = getattr(origin, key), getattr(config, key)
        if was != given:
            message = f"given {given!r}; must be {was!r}, as in {directory}: the states are its own"
            raise ConfigError(config.name, [Problem(key, message)])
    return origin


def check_states_fit(
    config: Experiment, tracks: Tracks, params: PyTree[Array], origin: Tracks, built: Built
) -> None:
    """Check that a branch can go on from the states of the run that it branches off.

    Nothing is computed: what would run is traced.

    Args:
        config: the branch's.
        tracks: its trajectories.
        params: the start of its potential, whose shapes count.
        origin: the trajectories of the other run.
        built: what the config of the other run names.

    Raises:
        ConfigError: if a state is missing or of another kind; the message names the key.
    """
    assert config.origin is not None

    def refuse(key: str, message: str) -> ConfigError:
        return ConfigError(config.name, [Problem(key, message)])

    shapes = [eqx.filter_eval_shape(lambda one=one: one) for one in (params, built.params)]
    if jax.tree.structure(shapes[0]) != jax.tree.structure(shapes[1]) or (
        jax.tree.leaves(shapes[0]) != jax.tree.leaves(shapes[1])
    ):
        raise refuse("potential", f"has other parameters than that of {config.origin.directory}")
    keys = {table.label: f"flows[{index}]" for index, table in enumerate(config.flows)}
    earlier = {track.label: track for track in origin.tracks}
    for track in tracks.tracks:
        key = keys.get(track.label, "optimizer")
        if track.label not in earlier:
            there = ", ".join(sorted(earlier.keys() - {DISCRETE})) or "none"
            message = f"given {track.label!r}; a branch has flows of its origin, which are {there}"
            raise refuse(f"{key}.label", message)
        if track.first_step >= config.origin.step:
            message = f"begins at step {track.first_step}; must begin before origin.step"
            raise refuse(key, f"{message} = {config.origin.step}")
        try:
            state = eqx.filter_eval_shape(
                lambda p, one=earlier[track.label]: one.advance(p, None, origin.least_steps).state,
                built.params,
            )
            eqx.filter_eval_shape(
                lambda s, one=track: one.advance(None, s, config.save_every), state
            )
        except ValueError as error:
            message = f"does not go on from the state of {config.origin.directory}: {error}"
            raise refuse(key, message) from error


def changed_optimizer(
    state: IterationState, earlier: PyTree[Array], count: int, before: Map, after: Map
) -> IterationState:
    """Return where an optimizer's run stands whose next step is that of another optimizer.

    The state of a run is one step ahead, and that step was still the first optimizer's.

    Args:
        state: where the run stands, at step t.
        earlier: the optimizer's own state, `count` steps before t.
        count: how many.
        before: the optimizer and the potential up to t.
        after: those from t on.
    """
    ahead = _stepped(after, _stepped(before, earlier, count), 1)
    return dataclasses.replace(state, optimizer=strongly_typed(ahead))


def _stepped(by: Map, state: PyTree[Array], count: int) -> PyTree[Array]:
    return _many_steps(*by, state, np.asarray(count, np.int32))


@eqx.filter_jit
def _many_steps(
    optimizer: flows.AbstractOptimizer,
    potential: flows.Potential,
    state: PyTree[Array],
    count: Int[np.ndarray, ""] | Int[Array, ""],
) -> PyTree[Array]:
    return lax.fori_loop(0, count, lambda _, s: optimizer.step(s, potential), strongly_typed(state))


def joined(start: xr.Dataset, rows: xr.Dataset) -> xr.Dataset:
    """Put the row at which a branch starts before its first rows.

    Args:
        start: the row, as the other run has it.
        rows: those of the branch, which may have other variables: what it lacks is left empty.
    """
    values = {}
    for name, variable in rows.variables.items():
        if variable.dims[:1] != ("step",):
            values[name] = variable
            continue
        first = np.full((1, *variable.shape[1:]), layout.fill(variable.dtype), variable.dtype)
        if name in start.variables and start[name].shape[1:] == variable.shape[1:]:
            first = start[name].values[-1:].astype(variable.dtype)
        together = np.concatenate([first, variable.values])
        values[name] = xr.Variable(variable.dims, together, variable.attrs)
    data = {name: values[name] for name in values if name not in rows.coords}
    coords = {name: values[name] for name in values if name in rows.coords}
    step = np.asarray(start["step"].values[-1]).item()
    return xr.Dataset(data, coords, {**rows.attrs, FIRST_STEP: round(step)})
