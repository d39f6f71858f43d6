"""What a saved quantity means: its unit, its description and its dimensions besides the step."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

STEPS: Final = "optimizer steps"
"""The unit of time of a flow that models an optimizer: one unit is one step."""

TIME: Final = "time"
"""The unit of time of a flow that has a time of its own."""

LOSS: Final = "loss"
SHARPNESS: Final = "loss / parameter^2"
GRADIENT: Final = "loss / parameter"
PARAMETER: Final = "parameter"
NONE: Final = "1"

_TAKEN: Final = frozenset({"step", "params", "parameter"})


class Variable(NamedTuple):
    """Metadata of one saved quantity, which becomes attributes of a dataset.

    Attributes:
        units: The unit, in terms of `loss` and `parameter`; "1" for a pure number.
        description: One line.
        dims: Names of the dimensions after the step.

    Example:
        >>> from flows import Variable
        >>> Variable("parameter^2", "variance of the oscillation along each mode", ("mode",)).dims
        ('mode',)
    """

    units: str
    description: str
    dims: tuple[str, ...] = ()


Variables = tuple[tuple[str, Variable], ...]
"""Variables by name, as a hashable value: a static field of a trajectory."""


def merge_variables(sources: Iterable[Mapping[str, Variable]]) -> Variables:
    """Merge the variables of several sources, each name described once.

    Raises:
        ValueError: If two sources use the same name, or one uses a name that the dataset of a run
            needs for something else.
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
    """Check that each computed quantity is described, and each described one computed.

    Raises:
        ValueError: If the two sets of names differ.
    """
    computed, described = set(names), set(variables)
    if computed != described:
        raise ValueError(
            f"{owner} must describe each quantity it computes: computed {sorted(computed)}, "
            f"described in `variables` {sorted(described)}."
        )
