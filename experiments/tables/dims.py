"""The `[study]` tables of dissipative mechanics, one class per kind."""

import importlib.util
from typing import Annotated, Any, ClassVar, Literal, get_args

import pydantic

from .base import (
    MOST_TABLES,
    BuildError,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    Seed,
    Size,
    SmallSize,
    Table,
    building,
    refuse,
)
from .data import TwoOrMore
from .flows import RESERVED_LABELS
from .kinds import OneOf
from .mechanics import FrictionTable
from .potentials import POTENTIALS, AbstractToyTable
from .study_base import AbstractStudyTable, Distinct


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must hold each entry once")
    return values


_RESERVED = (*RESERVED_LABELS, "conclusions")
Two = Annotated[tuple[float, ...], pydantic.Field(strict=False, min_length=2, max_length=2)]
Positives = Annotated[
    tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=1), Distinct
]
DataName = Literal["banana", "breast_cancer", "wine", "digits"]
Method = Literal[
    "map", "laplace", "linearised_laplace", "riemannian_laplace", "dims", "deep_ensemble"
]
METHODS: tuple[Method, ...] = get_args(Method)
Methods = Annotated[
    tuple[Method, ...], pydantic.Field(strict=False, min_length=1), pydantic.AfterValidator(_once)
]


class DimsRingTable(AbstractStudyTable):
    """`kind = "dims_ring"`: samples of the ring's circle of minima for several initial speeds.

    From (`radius`, 0) `samples` particles are thrown for each of `speeds`.
    """

    kind: Literal["dims_ring"]
    radius: PositiveFloat = 1.0
    gravity: PositiveFloat = 10.0
    friction: PositiveFloat = 1.0
    speeds: Positives = (0.25, 0.5, 1.0, 2.0)
    samples: Size = 512
    tolerance: PositiveFloat = 1e-10
    max_time: PositiveFloat = 200.0
    seed: Seed = 0

    figures: ClassVar[tuple[str, ...]] = ("dims_ring",)

    def build(self) -> Any:
        """Build a `studies.DimsRing`."""
        from ..studies.dims_ring import DimsRing

        return DimsRing(**self.model_dump(exclude={"kind"}))


class LabelledFriction(Table):
    """`[[study.frictions]]`: a friction law and what to call its path."""

    label: Name
    friction: FrictionTable


class DimsPathsTable(AbstractStudyTable):
    """`kind = "dims_paths"`: paths and energies of one start under several friction laws.

    The potential has two parameters; each path is stored at its start and `saves` more times, at
    equal distances in the flow's own time up to `horizon`.
    """

    kind: Literal["dims_paths"]
    potential: Annotated[
        AbstractToyTable, OneOf(POTENTIALS, ("ring", "rosenbrock", "scalar_product", "quadratic"))
    ]
    gravity: NonNegativeFloat = 10.0
    start: Two
    velocity: Two = (0.0, 0.0)
    horizon: PositiveFloat = 20.0
    saves: Annotated[int, pydantic.Field(ge=2, le=100_000)] = 2000
    frictions: Annotated[
        tuple[LabelledFriction, ...],
        pydantic.Field(strict=False, min_length=1, max_length=MOST_TABLES),
    ]

    figures: ClassVar[tuple[str, ...]] = ("dims_energy", "dims_valley")

    @pydantic.model_validator(mode="after")
    def _labels_differ(self) -> "DimsPathsTable":
        labels = [one.label.lower() for one in self.frictions]
        for index, label in enumerate(labels):
            if label in labels[:index] or label in _RESERVED:
                given = self.frictions[index].label
                message = f"given {given!r}; each must be its own, and none {', '.join(_RESERVED)}"
                raise refuse(f"frictions[{index}].label", message)
        return self

    @pydantic.model_validator(mode="after")
    def _there_is_one_start(self) -> "DimsPathsTable":
        if self.potential.start is not None:
            message = f"given {list(self.potential.start)}; must be left out: all paths begin at"
            raise refuse("potential.start", f"{message} the study's own start")
        return self

    def build(self) -> Any:
        """Build a `studies.DimsPaths`."""
        from ..studies.dims_paths import DimsPaths

        with building("potential"):
            potential = self.potential.build().potential
        return DimsPaths(
            potential=potential,
            gravity=self.gravity,
            start=self.start,
            velocity=self.velocity,
            horizon=self.horizon,
            saves=self.saves,
            frictions={one.label: one.friction.build() for one in self.frictions},
        )


class DimsLimitTable(AbstractStudyTable):
    """`kind = "dims_limit"`: how dissipative mechanics tends to a Riemannian gradient flow.

    On the ring, for each of `frictions`, up to the time `horizon` times the friction.
    """

    kind: Literal["dims_limit"]
    gravity: PositiveFloat = 1.0
    start: Two = (0.3, 0.2)
    velocity: Two = (0.5, 0.2)
    horizon: PositiveFloat = 1.0
    frictions: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=2), Distinct
    ] = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

    figures: ClassVar[tuple[str, ...]] = ("dims_limit",)

    def build(self) -> Any:
        """Build a `studies.DimsLimit`."""
        from ..studies.dims_limit import DimsLimit

        return DimsLimit(**self.model_dump(exclude={"kind"}))


class AbstractPosteriorsTable(AbstractStudyTable):
    """What the studies of uncertainty share.

    `scales` are the standard deviations of the weights that each method chooses from, by the
    negative log likelihood of `validation` held-out examples; `tolerance` is a loss, and takes a
    share sqrt(2 gravity tolerance / P) / (scale * friction) of the way of DiMS for P weights.
    `methods` (of the final classes) are those that are drawn or judged.
    """

    hidden: SmallSize
    train: Size
    validation: Size
    samples: SmallSize = 32
    members: SmallSize = 8
    scales: Positives = (0.1, 0.3, 1.0)
    gravity: PositiveFloat = 10.0
    friction: PositiveFloat = 1.0
    tolerance: PositiveFloat = 1e-5
    max_time: PositiveFloat = 5000.0


def _check_posteriors(
    table: Any, widths: tuple[int, int, int], train: int, classes: bool, where: str = ""
) -> None:
    """Refuse what a Laplace approximation, or a set of minima, cannot be made of.

    Args:
        table: one of the tables below.
        widths: of its network, which has one hidden layer.
        train: its training examples.
        classes: whether its outputs are those of a softmax, of which one is redundant.
        where: the table of `hidden`, with a dot, if it is not `table` itself.

    Raises:
        BuildError: if the weights, less those that a softmax makes redundant, are fewer than the
            numbers that they are trained to meet; if the dense matrix of P columns is too large, or
            laplax not installed.
    """
    from ..uncertainty import MOST_PARAMETERS

    inputs, hidden, outputs = widths
    # One number added to all outputs leaves a softmax as it is.
    independent = outputs - classes
    free = (inputs + 1) * hidden + (hidden + 1) * independent
    targets = train * independent
    if free < targets:
        least = -(-(targets - independent) // (inputs + 1 + independent))
        raise BuildError(
            f"{where}hidden",
            f"given {hidden}, a network of {free} independent weights for {targets} independent "
            f"targets of {train} examples, without a set of minima to sample; must be at least "
            f"{least}",
        )
    asked = [method for method in table.methods if method.endswith("laplace")]
    size = (inputs + 1) * hidden + (hidden + 1) * outputs
    if asked and size > MOST_PARAMETERS:
        message = f"given {hidden}, a network of {size} weights; Laplace approximations"
        raise BuildError(
            f"{where}hidden", f"{message} form a matrix of at most {MOST_PARAMETERS} columns"
        )
    if asked and importlib.util.find_spec("laplax") is None:
        message = f"given {', '.join(asked)}, which need the package laplax, not installed here"
        raise BuildError("methods", message)


class DimsRegressionTable(AbstractPosteriorsTable):
    """`kind = "dims_regression"`: predictive bands on generated data with a gap."""

    kind: Literal["dims_regression"]
    hidden: SmallSize = 24
    train: TwoOrMore = 16
    validation: TwoOrMore = 50
    noise: PositiveFloat = 0.05
    seed: Seed = 0
    methods: Methods = (
        "dims",
        "laplace",
        "linearised_laplace",
        "riemannian_laplace",
    )

    figures: ClassVar[tuple[str, ...]] = ("dims_regression",)

    def build(self) -> Any:
        """Build a `studies.DimsRegression`."""
        from ..studies.dims_regression import DimsRegression

        _check_posteriors(self, (1, self.hidden, 1), self.train, classes=False)
        return DimsRegression(**self.model_dump(exclude={"kind"}))


class DimsBananaTable(AbstractPosteriorsTable):
    """`kind = "dims_banana"`: predicted probabilities over the plane of the banana problem."""

    kind: Literal["dims_banana"]
    hidden: SmallSize = 16
    train: Size = 20
    validation: Size = 100
    noise: PositiveFloat = 0.25
    smoothing: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.05
    seed: Seed = 0
    methods: Methods = METHODS

    figures: ClassVar[tuple[str, ...]] = ("dims_banana",)

    def build(self) -> Any:
        """Build a `studies.DimsBanana`."""
        from ..studies.dims_banana import DimsBanana

        _check_posteriors(self, (2, self.hidden, 2), self.train, classes=True)
        return DimsBanana(**self.model_dump(exclude={"kind"}))


class BananaSizes(Table):
    """`[study.banana]`: what the banana problem has in place of the study's own sizes.

    Its classes overlap in a plane. There a network needs more units for its examples than on the
    other data sets: with hardly more weights than targets it meets them with ever larger weights,
    and a loss without a minimum has no set of minima.
    """

    hidden: SmallSize = 16
    train: Size = 20


class DimsUncertaintyTable(AbstractPosteriorsTable):
    """`kind = "dims_uncertainty"`: metrics of all methods over data sets and seeds.

    `hidden` and `train` are those of all data sets but the banana problem.
    """

    kind: Literal["dims_uncertainty"]
    hidden: SmallSize = 10
    train: Size = 60
    validation: Size = 50
    banana: BananaSizes = BananaSizes()
    data: Annotated[
        tuple[DataName, ...],
        pydantic.Field(strict=False, min_length=1),
        pydantic.AfterValidator(_once),
    ] = (
        "banana",
        "breast_cancer",
        "wine",
        "digits",
    )
    smoothing: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.05
    seeds: Annotated[
        tuple[Seed, ...],
        pydantic.Field(strict=False, min_length=2),
        pydantic.AfterValidator(_once),
    ] = (0, 1, 2)
    methods: Methods = METHODS

    figures: ClassVar[tuple[str, ...]] = ("dims_uncertainty",)

    def build(self) -> Any:
        """Build a `studies.DimsUncertainty`."""
        from ..studies.dims_uncertainty import DimsUncertainty, load_examples

        for name in self.data:
            data = load_examples(name)
            sizes, where = (self.banana, "banana.") if name == "banana" else (self, "")
            most = data.inputs.shape[0] - 1
            if sizes.train + self.validation > most:
                given = f"given {sizes.train}; train + validation = {sizes.train + self.validation}"
                raise BuildError(f"{where}train", f"{given} must be at most {most} for {name}")
            widths = (data.inputs.shape[1], sizes.hidden, data.targets.shape[1])
            _check_posteriors(self, widths, sizes.train, classes=True, where=where)
        return DimsUncertainty(**self.model_dump(exclude={"kind"}))
