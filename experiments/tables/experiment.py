"""A whole experiment: the keys at the top of a config, and what must hold between its tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from .base import (
    LARGEST_INT,
    MOST_TABLES,
    Name,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    Table,
    refuse,
)
from .data import LocalPath
from .figures import FigureNames, known
from .flows import FLOWS, AbstractFlowTable
from .kinds import OneOf
from .measurements import MEASUREMENTS, AbstractMeasurementTable
from .optimizers import OPTIMIZERS, AbstractOptimizerTable
from .potentials import POTENTIALS, AbstractPotentialTable

if TYPE_CHECKING:
    import flows

PotentialTable = Annotated[AbstractPotentialTable, OneOf(POTENTIALS)]
OptimizerTable = Annotated[AbstractOptimizerTable, OneOf(OPTIMIZERS)]
FlowTable = Annotated[AbstractFlowTable, OneOf(FLOWS)]
MeasurementTable = Annotated[AbstractMeasurementTable, OneOf(MEASUREMENTS)]

# About twenty checkpoints a run: little is lost, and writing them costs little.
_CHECKPOINTS = 20
_MAX_SAVES = 10**8


NEEDS_CURVATURE = "the table [curvature]; add it"
"""What a figure of the sharpness needs, where that is not measured."""

FEW_PARAMETERS = 32
"""Up to so many the sharpness is measured unasked: it takes as many Hessian-vector products."""


class CurvatureTable(Table):
    """`[curvature]`: how many leading Hessian eigenvalues to track, and how often (in steps).

    Without the table the sharpness is measured at each save of a run of at most `FEW_PARAMETERS`
    parameters, where it costs little, and of no other; in a sweep of none. `eigenvalues = 0`
    measures none at all.
    """

    eigenvalues: Annotated[int, pydantic.Field(ge=0, le=LARGEST_INT)] = 3
    every: PositiveInt


class StopTable(Table):
    """`[stop]`: at which loss, gradient or accuracy a trajectory ends before the last step.

    Each trajectory ends by itself, at the first save that reaches one of the goals.
    """

    loss: float | None = None
    test_loss: float | None = None
    gradient_norm: PositiveFloat | None = None
    accuracy: Share | None = None
    test_accuracy: Share | None = None

    def goals(self) -> "tuple[flows.Goal, ...]":
        """Build the goals: losses and gradients of at most, accuracies of at least a value."""
        import flows

        bounds = {"accuracy": "at_least", "test_accuracy": "at_least"}
        given = self.model_dump(exclude_none=True).items()
        return tuple(
            flows.Goal(name, **{bounds.get(name, "at_most"): value}) for name, value in given
        )


class OriginTable(Table):
    """`[origin]`: the run directory of an earlier run, and the step at which this one leaves it.

    The optimizer and the flows go on from their states there, with what this config says.
    """

    directory: LocalPath
    step: PositiveInt


class CheckpointTable(Table):
    """`[checkpoint]`: after how many steps the results and the state are written out."""

    every: PositiveInt


class Experiment(Table):
    """A validated config. Keys that were left out hold their defaults, which depend on others.

    `precision` is float64 for toy potentials and float32 for networks; `save_params` is true for
    toy potentials; `curvature.every` is `save_every`; `checkpoint.every` is a twentieth of the run.
    """

    name: Name
    description: str = ""
    seed: Seed = 0
    precision: Literal["float32", "float64"]
    steps: PositiveInt
    save_every: PositiveInt = 1
    save_params: bool
    figures: FigureNames = ("overview",)
    potential: PotentialTable
    optimizer: OptimizerTable
    flows: Annotated[
        tuple[FlowTable, ...], pydantic.Field(strict=False, max_length=MOST_TABLES)
    ] = ()
    measurements: Annotated[
        tuple[MeasurementTable, ...], pydantic.Field(strict=False, max_length=MOST_TABLES)
    ] = ()
    curvature: CurvatureTable | None = None
    stop: StopTable | None = None
    origin: OriginTable | None = None
    checkpoint: CheckpointTable

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        network = _is_network(data.get("potential"))
        filled: dict[str, Any] = {
            "precision": "float32" if network else "float64",
            "save_params": not network,
            "checkpoint": {},
            **data,
        }
        save_every = data.get("save_every", 1)
        if isinstance(filled["checkpoint"], dict):
            every = _default_checkpoint(data.get("steps"), save_every)
            filled["checkpoint"] = {"every": every, **filled["checkpoint"]}
        if isinstance(data.get("curvature"), dict):
            # Where save_every itself is wrong, that alone is worth reporting.
            every = save_every if isinstance(save_every, int) and save_every > 0 else 1
            filled["curvature"] = {"every": every, **data["curvature"]}
        return filled

    @pydantic.model_validator(mode="after")
    def _intervals_fit(self) -> "Experiment":
        steps, save_every = self.steps, self.save_every
        if steps % save_every:
            raise refuse("save_every", f"given {save_every}; must divide steps = {steps}")
        if steps // save_every > _MAX_SAVES:
            message = f"given {save_every}; {steps} steps would be more than {_MAX_SAVES} saves"
            raise refuse("save_every", message)
        if self.origin is not None and self.origin.step >= steps:
            message = f"given {self.origin.step}; must be below steps = {steps}: ask for more steps"
            raise refuse("origin.step", message)
        if self.origin is not None and self.origin.step % save_every:
            message = f"given {self.origin.step}; must be a multiple of save_every = {save_every}"
            raise refuse("origin.step", message)
        for key, table in (("curvature", self.curvature), ("checkpoint", self.checkpoint)):
            if table is not None and table.every % save_every:
                message = f"given {table.every}; must be a multiple of save_every = {save_every}"
                raise refuse(f"{key}.every", message)
        return self

    @pydantic.model_validator(mode="after")
    def _figures_have_their_data(self) -> "Experiment":
        kinds = [flow.kind for flow in self.flows]
        measured = [measurement.kind for measurement in self.measurements]
        needs = known()
        for name in self.figures:
            wanted = needs[name]
            if wanted.study:
                message = f"given {name!r}, which draws a study of kind {wanted.study!r}"
                raise refuse("figures", message)
            for missing, what in (
                (wanted.curvature and not self._may_measure_curvature, NEEDS_CURVATURE),
                (wanted.params and not self.save_params, "save_params = true"),
                (wanted.flow and wanted.flow not in kinds, f"a flow of kind {wanted.flow!r}"),
                (
                    wanted.measurement and wanted.measurement not in measured,
                    f"a table [[measurements]] of kind {wanted.measurement!r}",
                ),
            ):
                if missing:
                    raise refuse("figures", f"given {name!r}, which needs {what}")
        return self

    @property
    def _may_measure_curvature(self) -> bool:
        """False if it is left out, by the config itself or because this is a network."""
        if self.curvature is None:
            return not self.potential.network
        return self.curvature.eigenvalues > 0

    @pydantic.model_validator(mode="after")
    def _flows_model_the_optimizer(self) -> "Experiment":
        kind = self.optimizer.kind
        if not OPTIMIZERS.is_built_in(kind):
            return self  # Whether a flow models a user's optimizer, the flow says when it is built.
        for index, flow in enumerate(self.flows):
            if flow.models is not None and kind not in flow.models:
                fitting = [
                    name for name, table in FLOWS.entries.items() if kind in (table.models or ())
                ]
                raise refuse(
                    f"flows[{index}].kind",
                    f"given {flow.kind!r}, which models {', '.join(flow.models)}; the optimizer is "
                    f"{kind!r}: choose a flow that models it ({', '.join(fitting)}), or another "
                    "optimizer",
                )
        return self

    @pydantic.model_validator(mode="after")
    def _labels_differ(self) -> "Experiment":
        seen: dict[str, int] = {}
        for index, flow in enumerate(self.flows):
            # Labels name folders, and not every file system tells A from a.
            other = seen.setdefault(flow.label.lower(), index)
            if other != index:
                raise refuse(
                    f"flows[{index}].label",
                    f"given {flow.label!r}; flows[{other}] has this label too: each flow needs "
                    "one of its own (by default its kind; capitals make no difference)",
                )
        return self


def _is_network(potential: Any) -> bool:
    kind = potential.get("kind") if isinstance(potential, Mapping) else None
    table = POTENTIALS.entries.get(kind) if isinstance(kind, str) else None
    return table is not None and table.network


def _default_checkpoint(steps: Any, save_every: Any) -> int:
    if not (isinstance(steps, int) and isinstance(save_every, int)) or min(steps, save_every) < 1:
        return 1  # Another key is wrong, and will be reported.
    saves = max(1, steps // save_every)
    if saves > _MAX_SAVES:
        return save_every  # Too many saves, and reported as such.
    wanted = max(1, round(saves / _CHECKPOINTS))
    # Equal pieces need one compilation, a remainder needs a second.
    even = [n for n in range(max(1, wanted // 2), 2 * wanted + 1) if saves % n == 0]
    return save_every * min(even, key=lambda n: abs(n - wanted), default=wanted)
