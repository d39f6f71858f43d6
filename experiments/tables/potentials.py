"""The `[potential]` table: the loss to descend, derived from the classes of `potentials`."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Unpack

from .base import MOST_ITEMS, MOST_WORK, Table, Vector, check_numbers
from .constructors import Constructor
from .derived import Recipe, RecipeOptions, table_of
from .kinds import Registry

if TYPE_CHECKING:
    import flows
    import potentials


class BuiltPotential(NamedTuple):
    """A potential and what besides its loss is worth measuring along a trajectory."""

    potential: "potentials.AbstractPotential"
    measurements: "tuple[flows.AbstractMeasurement, ...]" = ()


class AbstractPotentialTable(Table, abc.ABC):
    """A table that builds a potential."""

    network: ClassVar[bool]
    """True if runs are of float32 by default, and do not store the parameters."""

    batched: ClassVar[bool]
    """True if runs whose tables differ in numbers alone may go through one vmapped program."""

    kind: str

    @abc.abstractmethod
    def build(self) -> BuiltPotential:
        """Build the potential, in the precision that JAX is set to.

        Returns:
            The potential with its measurements.

        Raises:
            ValueError: if the values do not make a potential (no such file, too many classes).
        """


class AbstractToyTable(AbstractPotentialTable, abc.ABC):
    """A table with a key `start`: the parameters, flattened, in place of the seeded start."""

    start: Vector | None = None


POTENTIALS: Registry[type[AbstractPotentialTable]] = Registry("potential")


def potential_table(
    kind: str,
    constructor: Constructor,
    *,
    check: Callable[[Any], None] | None = None,
    network: bool = False,
    batched: bool = True,
    **options: Unpack[RecipeOptions],
) -> type[AbstractToyTable]:
    """Derive the table of a potential.

    Args:
        kind: its name in a config.
        constructor: what makes the potential.
        check: raises a `BuildError` if the table asks for too much memory.
        network: as `AbstractPotentialTable` has it.
        batched: as `AbstractPotentialTable` has it.
        **options: of `Recipe`.

    Returns:
        The table.
    """
    recipe = Recipe(constructor, **options)

    def build(self: AbstractToyTable) -> BuiltPotential:
        if check is not None:
            check(self)
        return BuiltPotential(recipe.construct(self))

    members = {"network": network, "batched": batched, "build": build}
    return table_of(AbstractToyTable, kind, recipe, **members)


def _check_factors(table: Any) -> None:
    factors = table.rank * (len(table.target) + len(table.target[0]))
    check_numbers("rank", table.rank, factors, "two factors")


def _add(kind: str, name: str, **options: Any) -> None:
    POTENTIALS.add(potential_table(kind, f"potentials.{name}", **options))


_add("quadratic", "Quadratic")
_add("quartic", "Quartic", defaults={"quartic": 1.0})
_add("ring", "Ring")
_add("double_well", "DoubleWell")
_add("sharp_valley", "SharpValley")
_add("sharp_valley_2", "SharpValley2")
_add("scalar_product", "ScalarProduct", most={"depth": 1000})
_add(
    "matrix_factorization",
    "MatrixFactorization",
    most={"rank": MOST_WORK},
    check=_check_factors,
)
_add("rosenbrock", "Rosenbrock")
_add("catapult", "Catapult", most={"width": MOST_ITEMS})
_add("weierstrass_sine", "WeierstrassSine", most={"terms": MOST_WORK})
_add("weierstrass", "Weierstrass", most={"terms": MOST_WORK})
_add("gaussian_pits", "GaussianPits", most={"pits": MOST_WORK, "dimension": MOST_WORK})
_add("whitley", "Whitley", most={"dimension": 1000})
# Of two parameters: the loss is evaluated on a whole grid of them.
_add("sine_regression", "SineRegression", most={"examples": MOST_WORK})
