"""One case of the panel: the discrete run, and each flow beside it."""

import dataclasses
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

import flows
from flows.optimizers.optax_optimizer import as_optimizer

from .cases import Case
from .compile_time import compile_time
from .contestants import CONTESTANTS, Contestant, Start
from .measures import MEASURES, half_differences, measures, onset
from .resumed import resumed

DONE, FAILED, DOES_NOT_APPLY = "done", "failed", "does not apply"

# Pieces of a run are compiled for their length: a run of equal ones is compiled once, and so are
# cases of one shape, whose numbers of steps are multiples of this.
_LONGEST_SEGMENT = 100
# Per optimizer step, many times what a flow takes: one that takes more is entered as a failure.
_MOST_SOLVER_STEPS = 60


@dataclasses.dataclass(frozen=True)
class Entry:
    """One cell of the panel: how a flow did on a case.

    Attributes:
        flow: The flow's name.
        outcome: `DONE`, `FAILED` or `DOES_NOT_APPLY`.
        message: Why it has no numbers; empty if it has.
        values: The value of each measure; nan where there is none.
    """

    flow: str
    outcome: str
    message: str
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the panel.

    Attributes:
        size: The number of parameters.
        onset: The step at which the discrete oscillation begins; nan if it is there at the start.
        largest: The largest discrete half-difference.
        entries: One for each flow.
    """

    size: int
    onset: float
    largest: float
    entries: tuple[Entry, ...]


def compare(case: Case, names: Sequence[str]) -> Row:
    """Run a case's optimizer, and some flows beside it.

    Every flow starts at step `case.burn` of the one discrete run: at its parameters, with the
    optimizer's state there, or from what the flow itself makes of the steps around it.

    Args:
        case: The case.
        names: Of the flows.

    Raises:
        flows.SimulationError: If the discrete run fails. A flow that fails is an entry.
    """
    potential, params = case.problem()
    optimizer = as_optimizer(case.optimizer())
    discrete = flows.iterate(optimizer, potential, params, case.steps, segment=_segment(case.steps))
    memory = case.burn > 0 and not isinstance(optimizer, flows.AbstractDescent)
    later = resumed(optimizer, potential, params, case.burn) if memory else optimizer
    start = Start(case, optimizer, later)
    first = max(case.burn, 1)
    lengths = half_differences(discrete)[first:]
    largest = float(lengths.max())
    begins = onset(lengths, largest)
    return Row(
        size=sum(x.size for x in jax.tree.leaves(params)),
        onset=first + begins if begins > 0 else np.nan,
        largest=largest,
        entries=tuple(_entries(start, names, potential, discrete)),
    )


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _segment(saves: int) -> int:
    return max(n for n in range(1, _LONGEST_SEGMENT + 1) if saves % n == 0)


def _entries(
    start: Start, names: Sequence[str], potential: flows.Potential, discrete: flows.Trajectory
) -> Iterator[Entry]:
    nothing = dict.fromkeys(MEASURES, np.nan)
    params, there = (
        jax.tree.map(lambda x, i=i: x[i], discrete.params) for i in (0, start.case.burn)
    )
    for name in names:
        contestant = CONTESTANTS[name]
        try:
            flow = contestant.make(start)
            own_start = flow.first_step == start.case.burn
            begin = params if own_start else there
            eqx.filter_eval_shape(flow.init, potential, begin)
        except ValueError as error:
            yield Entry(name, DOES_NOT_APPLY, _in_one_line(error), nothing)
            continue
        try:
            late = 0 if own_start else start.case.burn
            run, seconds = _run(start.case, contestant, flow, potential, begin, late)
        except flows.SimulationError as error:
            yield Entry(name, FAILED, _in_one_line(error), nothing)
            continue
        amplitude = _amplitude(start, contestant, run)
        yield Entry(name, DONE, "", measures(run, discrete, amplitude, seconds))


def _run(
    case: Case,
    contestant: Contestant,
    flow: flows.AbstractFlow,
    potential: flows.Potential,
    begin: PyTree[Array],
    late: int,
) -> tuple[flows.Trajectory, float]:
    """Run a flow from a step `late` on, at which its own time begins, to the case's end."""
    steps = case.steps - late
    segment = _segment(steps - flow.first_step)
    options = {"max_solver_steps": _MOST_SOLVER_STEPS, **contestant.integrator()}
    with compile_time() as compiling:
        run = flows.simulate(
            flow,
            potential,
            begin,
            steps,
            measurements=(),
            segment=segment,
            **options,
        )
    return dataclasses.replace(run, steps=run.steps + late), compiling.seconds


def _amplitude(start: Start, contestant: Contestant, run: flows.Trajectory) -> np.ndarray | None:
    # With a memory, the covariance of rods is that of the phase space, momenta included.
    descends = isinstance(start.optimizer, flows.AbstractDescent)
    if contestant.amplitude is None or not (descends or "half_difference" in run.observables):
        return None
    return contestant.amplitude({name: np.asarray(x) for name, x in run.observables.items()})
