"""From a validated config to the objects that run: potential, start, optimizer, flows."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import flows

from ..studies import AbstractStudy
from ..system.errors import ConfigError, Problem
from ..tables import (
    AbstractToyTable,
    BuildError,
    Experiment,
    StudyExperiment,
    building,
    check_numbers,
)


class BuiltFlow(NamedTuple):
    """A flow, its label, its kind in the config, and how `simulate` is to integrate it."""

    label: str
    kind: str
    flow: Any
    solver: dict[str, Any]


class Built(NamedTuple):
    """What a config stands for; `size` is the number of parameters."""

    potential: Any
    params: Any
    size: int
    optimizer: Any
    flows: tuple[BuiltFlow, ...]
    measurements: tuple[Any, ...]


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Set JAX's default float type for a block of code, and restore it afterwards.

    It is set for this thread alone: other threads may be at work in another precision.

    Args:
        name: "float32" or "float64".
    """
    with jax.enable_x64(name == "float64"):
        yield


def build(config: Experiment, source: str, cache: dict[Any, Any] | None = None) -> Built:
    """Build everything that a config names, inside its `precision`.

    Args:
        config: the config.
        source: what to call it in an error.
        cache: what earlier builds of the same precision made, by table: equal tables are built
            once. Filled by each build; give an empty one to the first of many.

    Returns:
        The objects.

    Raises:
        ConfigError: if data are missing or do not fit, or a value contradicts the number of
            parameters; the message names the key.
    """
    cache = {} if cache is None else cache
    problem = (config.potential, config.seed)
    try:
        if problem not in cache:
            cache[problem] = _problem(config)
        potential, extra, params, size = cache[problem]
        if "paths" in config.figures and size != 2:
            message = f"given 'paths', which draws two parameters; this potential has {size}"
            raise BuildError("figures", message)
        with building("optimizer"):
            if config.optimizer not in cache:
                cache[config.optimizer] = config.optimizer.build()
            optimizer = cache[config.optimizer]
            params = config.optimizer.start(optimizer, potential, params)
        built_flows = []
        for index, table in enumerate(config.flows):
            key = (table, config.optimizer, size)
            if key not in cache:
                with building(f"flows[{index}]"):
                    cache[key] = BuiltFlow(
                        table.label,
                        table.kind,
                        table.build(optimizer, size),
                        table.solver.arguments(),
                    )
            built_flows.append(_shaped(cache[key], params))
        measurements = (flows.LossAndGradient(), *_curvature(config, size), *extra)
    except BuildError as error:
        raise ConfigError(source, [Problem(error.key, error.message)]) from error
    return Built(potential, params, size, optimizer, tuple(built_flows), measurements)


def _problem(config: Experiment) -> tuple[Any, tuple[Any, ...], Any, int]:
    with building("potential"):
        potential, extra = config.potential.build()
        return potential, extra, *_start(config, potential)


def _shaped(built: BuiltFlow, params: Any) -> BuiltFlow:
    """Give an initial velocity, a list in the config, the parameters' shape."""
    flow = built.flow
    if isinstance(flow, flows.DissipativeFlow) and flow.velocity is not None:
        velocity = ravel_pytree(params)[1](flow.velocity)
        flow = flows.DissipativeFlow(flow.gravity, flow.friction, velocity)
    return built._replace(flow=flow)


def build_study(config: StudyExperiment, source: str) -> AbstractStudy:
    """Return the study that a config names, checked inside of its `precision`.

    Args:
        config: the config.
        source: what to call it in an error.

    Returns:
        A copy: a study keeps what its parts share, a trained network perhaps, which would
        otherwise live as long as the config.

    Raises:
        ConfigError: if the values do not make a study; the message names the key.
    """
    study = config.study.model_copy()
    try:
        with building("study"):
            study.check()
    except BuildError as error:
        raise ConfigError(source, [Problem(error.key, error.message)]) from error
    return study


def _start(config: Experiment, potential: Any) -> tuple[Any, int]:
    params = potential.init(jax.random.key(config.seed))
    flat, unravel = ravel_pytree(params)
    table = config.potential
    if isinstance(table, AbstractToyTable) and table.start is not None:
        if len(table.start) != flat.size:
            raise BuildError(
                "start",
                f"given {len(table.start)} numbers; this potential has {flat.size} parameters",
            )
        with np.errstate(over="ignore"):
            start = jnp.asarray(np.asarray(table.start), flat.dtype)
        if not bool(jnp.all(jnp.isfinite(start))):
            message = f"given {table.start}; not all finite in {flat.dtype}, the config's precision"
            raise BuildError("start", message)
        params = unravel(start)
    return params, flat.size


def _curvature(config: Experiment, size: int) -> tuple[Any, ...]:
    if config.curvature is None:
        return ()
    eigenvalues = config.curvature.eigenvalues
    if eigenvalues > size:
        raise BuildError(
            "curvature.eigenvalues",
            f"given {eigenvalues}; must be at most the number of parameters, {size}",
        )
    check_numbers("curvature.eigenvalues", eigenvalues, eigenvalues * size, "eigenvectors")
    # The config counts in steps, the measurement in saves.
    return (flows.Curvature(eigenvalues, every=config.curvature.every // config.save_every),)
