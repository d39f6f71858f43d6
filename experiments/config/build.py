"""From a validated config to the objects that run: potential, start, optimizer, flows."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import flows
from figures import known
from flows import AbstractFlow, AbstractMeasurement, AbstractOptimizer, Goal, Potential
from flows.core.schedules import is_scheduled
from flows.core.trees import Params
from flows.core.variables import merge_variables
from flows.manifolds.method import AbstractRiemannianMethod
from flows.measurements.threshold import THRESHOLD
from flows.optimizers.adaptive import AbstractSecondMomentMethod

from ..compare.comparison import METADATA
from ..compare.oscillation import HALF_DIFFERENCE, HALF_DIFFERENCE_LENGTH
from ..studies import AbstractStudy, StudyExperiment
from ..system.errors import ConfigError, Problem
from ..tables import AbstractToyTable, BuildError, Experiment, building, check_numbers
from ..tables.experiment import FEW_PARAMETERS, NEEDS_CURVATURE

# What a run adds to the results of the optimizer by itself, besides those of the flows.
_OF_THE_RUN = {**HALF_DIFFERENCE, **HALF_DIFFERENCE_LENGTH, **METADATA, **THRESHOLD}


# How many eigenvalues are measured where no table says so.
_FEW_EIGENVALUES = 3


class BuiltFlow(NamedTuple):
    """A flow as a run needs it.

    Attributes:
        label: names its results.
        kind: its kind in the config.
        flow: the flow.
        solver: arguments of `flows.simulate` that say how it is integrated.
    """

    label: str
    kind: str
    flow: AbstractFlow
    solver: dict[str, Any]


class Built(NamedTuple):
    """The objects that a config names.

    Attributes:
        potential: the loss.
        params: where the optimizer and the flows start.
        size: the number of parameters.
        optimizer: the discrete map.
        flows: the flows beside it.
        measurements: what is measured at each save of every trajectory.
        goals: at which each trajectory stops.
    """

    potential: Potential
    params: Params
    size: int
    optimizer: AbstractOptimizer
    flows: tuple[BuiltFlow, ...]
    measurements: tuple[AbstractMeasurement, ...]
    goals: tuple[Goal, ...] = ()


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
        _check_figures_can_draw(config, size)
        with building("optimizer"):
            if config.optimizer not in cache:
                cache[config.optimizer] = config.optimizer.build()
            optimizer = cache[config.optimizer]
            params = config.optimizer.start(optimizer, potential, params)
        # By hand: of ten thousand runs of a sweep, tracing each would take most of the time.
        leaves, structure = jax.tree.flatten(params)
        outline = (structure, *((jnp.shape(x), jnp.result_type(x)) for x in leaves))
        built_flows = []
        for index, table in enumerate(config.flows):
            key = (table, config.optimizer, outline)
            if key not in cache:
                with building(f"flows[{index}]"):
                    flow, solver = table.build(optimizer, params), table.solver.arguments()
                    cache[key] = BuiltFlow(table.label, table.kind, flow, solver)
            built_flows.append(cache[key])
        standard = (
            flows.LossAndGradient(),
            *_curvature(config, size, optimizer, built_flows),
            *extra,
        )
        measurements = (*standard, *_measurements(config, potential, params))
        _check_names_differ(measurements, built_flows)
        _check_first_steps(config, built_flows)
        goals = () if config.stop is None else config.stop.goals()
        _check_goals_are_measured(goals, measurements)
    except BuildError as error:
        raise ConfigError(source, [Problem(error.key, error.message)]) from error
    return Built(potential, params, size, optimizer, tuple(built_flows), measurements, goals)


def _problem(
    config: Experiment,
) -> tuple[Potential, tuple[AbstractMeasurement, ...], Params, int]:
    with building("potential"):
        potential, extra = config.potential.build()
        return potential, extra, *_start(config, potential)


def _check_figures_can_draw(config: Experiment, size: int) -> None:
    unmeasured = config.curvature is None and size > FEW_PARAMETERS
    for name in config.figures:
        needs = known()[name]
        if needs.curvature and unmeasured:
            raise BuildError("figures", f"given {name!r}, which needs {NEEDS_CURVATURE}")
        if needs.size not in (0, size):
            count = {2: "two"}.get(needs.size, needs.size)
            message = f"given {name!r}, which draws {count} parameters; this potential has {size}"
            raise BuildError("figures", message)


def _measurements(
    config: Experiment, potential: Potential, params: Params
) -> list[AbstractMeasurement]:
    """Those of `[[measurements]]`, each of which can be made at the start.

    Raises:
        BuildError: if one cannot be built, or made of this potential.
    """
    found = []
    for index, table in enumerate(config.measurements):
        with building(f"measurements[{index}]"):
            measurement = table.build()
            if not isinstance(measurement, AbstractMeasurement):
                raise ValueError(f"must be a flows.AbstractMeasurement; got {measurement!r}")
            eqx.filter_eval_shape(measurement.init, potential, params)
            found.append(measurement)
    return found


def _check_names_differ(
    measurements: Sequence[AbstractMeasurement], built: Sequence[BuiltFlow]
) -> None:
    measured = [one.variables for one in measurements]
    with building("measurements"):
        merge_variables([_OF_THE_RUN, *measured])
    for index, one in enumerate(built):
        with building(f"flows[{index}]"):
            merge_variables([METADATA, *measured, one.flow.variables])


def _check_goals_are_measured(
    goals: Sequence[Goal], measurements: Sequence[AbstractMeasurement]
) -> None:
    measured = {name for one in measurements for name in one.variables}
    for goal in goals:
        if goal.name not in measured:
            ways = ["potential.data.test holds examples out"] * goal.name.startswith("test_")
            ways += ["an accuracy is one of classes"] * goal.name.endswith("accuracy")
            message = f"{goal.name} is not measured in this run: {', and '.join(ways)}"
            raise BuildError(f"stop.{goal.name}", message)


def _check_first_steps(config: Experiment, built: Sequence[BuiltFlow]) -> None:
    """Check that each flow begins at a save of the run, before its end.

    Raises:
        BuildError: if one does not.
    """
    for index, one in enumerate(built):
        first = one.flow.first_step
        key = f"flows[{index}]" + (".burn" if hasattr(config.flows[index], "burn") else "")
        if first % config.save_every:
            message = f"begins at step {first}; must be a multiple of save_every"
            raise BuildError(key, f"{message} = {config.save_every}")
        if first >= config.steps:
            raise BuildError(key, f"begins at step {first}; must be below steps = {config.steps}")


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


def _start(config: Experiment, potential: Potential) -> tuple[Params, int]:
    draw = getattr(potential, "init", None)
    if not callable(potential) or not callable(draw):
        message = "must be a function of the parameters with a method init(key) that draws a start"
        raise ValueError(f"{message}; got {potential!r}")
    params: Params = draw(jax.random.key(config.seed))
    flat, unravel = ravel_pytree(params)
    table = config.potential
    given = table.start if isinstance(table, AbstractToyTable) else None
    if given is not None:
        if len(given) != flat.size:
            message = f"given {len(given)} numbers; this potential has {flat.size} parameters"
            raise BuildError("start", message)
        with np.errstate(over="ignore"):
            start = np.asarray(given).astype(flat.dtype)
        if not np.all(np.isfinite(start)):
            message = f"given {given}; not all finite in {flat.dtype}, the config's precision"
            raise BuildError("start", message)
        params = unravel(jnp.asarray(start))
    return params, flat.size


def _curvature(
    config: Experiment,
    size: int,
    optimizer: flows.AbstractOptimizer,
    built: Sequence[BuiltFlow],
) -> tuple[AbstractMeasurement, ...]:
    """The sharpness; also that in an adaptive method's metric, or on a method's manifold.

    Raises:
        BuildError: if there are fewer parameters than eigenvalues.
    """
    if config.curvature is None:
        # Where it costs little it is measured unasked, at each save.
        eigenvalues = min(size, _FEW_EIGENVALUES) if size <= FEW_PARAMETERS else 0
        interval = config.save_every
    else:
        eigenvalues, interval = config.curvature.eigenvalues, config.curvature.every
    if not eigenvalues:
        return ()
    if eigenvalues > size:
        raise BuildError(
            "curvature.eigenvalues",
            f"given {eigenvalues}; must be at most the number of parameters, {size}",
        )
    check_numbers("curvature.eigenvalues", eigenvalues, eigenvalues * size, "eigenvectors")
    # The config counts in steps, the measurement in saves.
    every = interval // config.save_every
    plain = flows.Curvature(eigenvalues, every=every)
    if isinstance(optimizer, AbstractRiemannianMethod):
        on_it = flows.RiemannianCurvature(optimizer.manifold, eigenvalues, every=every)
        return plain, on_it, flows.ConstraintDrift(optimizer.manifold)
    if not isinstance(optimizer, flows.AbstractAdaptiveMethod):
        return (plain,)
    preconditioned = flows.PreconditionedCurvature(eigenvalues, every=every)
    # A measurement counts the saves of a trajectory from step 0.
    later = is_scheduled(optimizer) and any(one.flow.first_step for one in built)
    if not isinstance(optimizer, AbstractSecondMomentMethod) or later:
        return plain, preconditioned
    return plain, preconditioned, flows.EffectiveLearningRate(optimizer, config.save_every)
