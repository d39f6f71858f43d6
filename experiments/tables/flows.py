"""The `[[flows]]` tables: the continuous models that run beside the optimizer, one class per kind.

A new kind is one class here and its name in `FlowTable`.
"""

import abc
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from .base import (
    BuildError,
    Fraction,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    Table,
    Vector,
    check_numbers,
    refuse,
)
from .friction import FrictionTable
from .solvers import SolverTable

RESERVED_LABELS = ("discrete", "landscape", "zarr.json")
# The solver of each kind of flow, where `[flows.solver]` names none.
_SOLVERS = {
    "gradient": "tsit5",
    "central": "default",
    "rod": "default",
    "ball_centre": "default",
    "dissipative": "tsit5",
}
# What `flows.RodFlow` takes for the share of rank = "auto" unless told otherwise.
_SHARE = 0.99
# As many as `flows.CentralFlow` can watch.
_MOST_MODES = 16


def _not_reserved(label: str) -> str:
    # Not every file system tells A from a.
    if label.casefold() in RESERVED_LABELS:
        raise ValueError(f"may not be one of {', '.join(RESERVED_LABELS)}: the store uses them")
    return label


Label = Annotated[Name, pydantic.AfterValidator(_not_reserved)]


def _rank(value: Any) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= _MOST_MODES):
        return value
    raise ValueError(f'must be a whole number from 1 to {_MOST_MODES}, or "auto"')


def _rods(value: Any) -> int | str:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError('must be a whole number of at least 1, or "auto"')


# One validator for both, since an error of each member of a union is no answer to one question.
Rank = Annotated[int | str, pydantic.PlainValidator(_rank)]
RodRank = Annotated[int | str, pydantic.PlainValidator(_rods)]


class AbstractFlowTable(Table, abc.ABC):
    """A table that builds a flow of `flows`.

    `label` (by default the kind) names its results; `solver.kind` is by default "tsit5" for
    gradient flow, and "default", the solver made for it, for the other flows.
    """

    models: ClassVar[tuple[str, ...] | None]
    """The kinds of optimizer that the flow models; None for all of them."""

    batched: ClassVar[bool]
    """Whether many runs may go through one vmapped program: what the flow does between the
    segments of a run needs none of the values, and no run is much slower than the others."""

    label: Label
    solver: SolverTable

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            return data
        filled = {"label": data["kind"], "solver": {}, **data}
        own = _SOLVERS.get(data["kind"])
        if own is not None and isinstance(filled["solver"], dict):
            filled["solver"] = {"kind": own, **filled["solver"]}
        return filled

    @property
    @abc.abstractmethod
    def vectors(self) -> int:
        """How many vectors of the parameters' size each save of this flow holds in memory."""

    @abc.abstractmethod
    def build(self, optimizer: Any, size: int) -> Any:
        """Build the flow.

        Args:
            optimizer: the built optimizer that the flow models.
            size: the number of parameters.

        Returns:
            A flow of `flows`.

        Raises:
            BuildError: if the flow does not go with that many parameters.
        """


class GradientFlowTable(AbstractFlowTable):
    """`kind = "gradient"`: gradient flow, with the backward-error correction if asked for."""

    models: ClassVar[tuple[str, ...] | None] = ("gradient_descent",)
    batched: ClassVar[bool] = True

    kind: Literal["gradient"]
    correction: bool = False

    @property
    def vectors(self) -> int:
        """The centre."""
        return 1

    def build(self, optimizer: Any, size: int) -> Any:
        """Build a `flows.GradientFlow`."""
        import flows

        del size
        return flows.GradientFlow(optimizer, correction=self.correction)


class CentralFlowTable(AbstractFlowTable):
    """`kind = "central"`: Central Flow (arXiv 2410.24206).

    `rank` is how many eigenvalues are watched, or "auto"; `relaxation_time` is in steps;
    `correction` adds the backward-error term to the centre.
    """

    models: ClassVar[tuple[str, ...] | None] = ("gradient_descent",)
    batched: ClassVar[bool] = False

    kind: Literal["central"]
    rank: Rank = "auto"
    relaxation_time: PositiveFloat = 0.25
    correction: bool = False

    @property
    def vectors(self) -> int:
        """The centre, and the directions of the variances."""
        return 1 + (self.rank if isinstance(self.rank, int) else _MOST_MODES)

    def build(self, optimizer: Any, size: int) -> Any:
        """Build a `flows.CentralFlow` that gives its directions, to measure variances along."""
        import flows

        if isinstance(self.rank, int) and self.rank > size:
            message = f"given {self.rank}; must be at most the number of parameters, {size}"
            raise BuildError("rank", message)
        return flows.CentralFlow(
            optimizer,
            rank=self.rank,
            relaxation_time=self.relaxation_time,
            correction=self.correction,
            directions=True,
        )


class RodFlowTable(AbstractFlowTable):
    """`kind = "rod"`: Rod Flow of any optimizer (arXiv 2602.01480, 2605.06821).

    `rank` is how many rods, or "auto" for as many as carry `share` of trace(Sigma), by default
    0.99; `alignment` adds how the rods lie among the Hessian's eigenvectors; `dense_limit` is the
    largest phase space whose Sigma is kept as a matrix, by default what `flows.RodFlow` takes.
    """

    models: ClassVar[tuple[str, ...] | None] = ("gradient_descent", "heavy_ball", "nesterov")
    batched: ClassVar[bool] = True

    kind: Literal["rod"]
    rank: RodRank = 1
    share: Fraction | None = None
    alignment: bool = True
    dense_limit: Annotated[int, pydantic.Field(ge=0)] | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_share(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("rank") == "auto":
            return {"share": _SHARE, **data}
        return data

    @pydantic.model_validator(mode="after")
    def _auto_alone_has_a_share(self) -> "RodFlowTable":
        if self.share is not None and self.rank != "auto":
            message = f"given {self.share}; goes with rank = 'auto' alone, not {self.rank}"
            raise refuse("share", message)
        return self

    @property
    def vectors(self) -> int:
        """The centre."""
        return 1

    def build(self, optimizer: Any, size: int) -> Any:
        """Build a `flows.RodFlow`."""
        import jax
        import jax.numpy as jnp

        import flows

        state = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct((size,), jnp.zeros(()).dtype))
        phase = sum(leaf.size for leaf in jax.tree.leaves(state))
        if isinstance(self.rank, int) and self.rank > phase:
            message = f"given {self.rank}; must be at most {phase}, the numbers in the state of the"
            raise BuildError("rank", f"{message} optimizer, which has {size} parameters")
        if isinstance(self.rank, int):
            check_numbers("rank", self.rank, self.rank * phase, "rods")
        if phase <= (self.dense_limit or 0):
            check_numbers("dense_limit", self.dense_limit, phase**2, "a matrix Sigma")
        chosen = {"share": self.share, "dense_limit": self.dense_limit}
        given = {key: value for key, value in chosen.items() if value is not None}
        return flows.RodFlow(optimizer, self.rank, alignment=self.alignment, **given)


class BallCentreFlowTable(AbstractFlowTable):
    """`kind = "ball_centre"`: the motion of a rolling ball's centre (arXiv 2505.19527).

    `principal_curvature` adds radius times the largest principal curvature at the contact.
    """

    models: ClassVar[tuple[str, ...] | None] = ("rolling_ball",)
    batched: ClassVar[bool] = False

    kind: Literal["ball_centre"]
    principal_curvature: bool = True

    @property
    def vectors(self) -> int:
        """The centre, and the contact."""
        return 2

    def build(self, optimizer: Any, size: int) -> Any:
        """Build a `flows.BallCentreFlow`."""
        import flows

        del size
        return flows.BallCentreFlow(optimizer, curvature=self.principal_curvature)


class DissipativeFlowTable(AbstractFlowTable):
    """`kind = "dissipative"`: dissipative Riemannian mechanics (arXiv 2605.15459).

    It models no optimizer and has its own time, of which `steps` is the horizon: its step is a
    time, and it has no `distance`. `velocity` (flattened) is the initial one, by default 0.
    """

    models: ClassVar[tuple[str, ...] | None] = None
    batched: ClassVar[bool] = True

    kind: Literal["dissipative"]
    gravity: NonNegativeFloat
    friction: FrictionTable
    velocity: Vector | None = None

    @property
    def vectors(self) -> int:
        """The position."""
        return 1

    def build(self, optimizer: Any, size: int) -> Any:
        """Build a `flows.DissipativeFlow`, whose velocity is a flat array."""
        import flows

        del optimizer
        velocity = None
        if self.velocity is not None:
            import jax.numpy as jnp

            if len(self.velocity) != size:
                message = (
                    f"given {len(self.velocity)} numbers; this potential has {size} parameters"
                )
                raise BuildError("velocity", message)
            velocity = jnp.asarray(self.velocity)
        return flows.DissipativeFlow(self.gravity, self.friction.build(), velocity)


FlowTable = Annotated[
    GradientFlowTable
    | CentralFlowTable
    | RodFlowTable
    | BallCentreFlowTable
    | DissipativeFlowTable,
    pydantic.Field(discriminator="kind"),
]
