"""What a saved quantity means: the unit, the description and the extra dimensions of a variable."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

STEPS = "optimizer steps"
TIME = "time"
LOSS = "loss"
SHARPNESS = "loss / parameter^2"
GRADIENT = "loss / parameter"
PARAMETER = "parameter"
NONE = "1"

_TAKEN = frozenset({"step", "params", "parameter"})


class Variable(NamedTuple):
    """Metadata of one saved quantity.

    Attributes:
        units: The unit, in terms of `loss` and `parameter`; "1" for a pure number.
        description: One line.
        dims: Names of the dimensions after the step.
    """

    units: str
    description: str
    dims: tuple[str, ...] = ()


Variables = tuple[tuple[str, Variable], ...]


def merge_variables(sources: Iterable[Mapping[str, Variable]]) -> Variables:
    """Merge the variables of several sources, each name described once.

    Raises:
        ValueError: If two sources use the same name, or one uses a name that the dataset has for
            something else.
    """
    merged: dict[str, Variable] = {}
    for source in sources:
        for name, variable in source.items():
            if name in merged:
                raise ValueError(
                    f"measurements and observables must have distinct names; got {name!r} twice."
                )
            merged[name] = variable
    taken = _TAKEN | {dim for variable in merged.values() for dim in variable.dims}
    for name in merged:
        if name in taken:
            raise ValueError(
                f"measurements and observables may not be named {name!r}, which names a "
                "coordinate, a dimension or the parameters in the dataset of a run."
            )
    return tuple(merged.items())


def check_variables(owner: str, names: Iterable[str], variables: Mapping[str, Variable]) -> None:
    """Check that what was computed is what is described.

    Raises:
        ValueError: If the two sets of names differ.
    """
    computed, described = set(names), set(variables)
    if computed != described:
        raise ValueError(
            f"{owner} must describe each quantity it computes: computed {sorted(computed)}, "
            f"described in `variables` {sorted(described)}."
        )
