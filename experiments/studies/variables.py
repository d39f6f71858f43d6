"""The datasets of studies, whose variables each have a unit and one line of description."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .study import Dataset

if TYPE_CHECKING:
    from jax.typing import ArrayLike
else:
    ArrayLike = Any

Values: TypeAlias = ArrayLike | Sequence[float] | Sequence[Sequence[float]]

Described: TypeAlias = tuple[str | tuple[str, ...], Values, str, str]
"""Names of dimensions, values, unit ("1" for a pure number) and one line of description."""


def dataset(
    variables: Mapping[str, Described],
    coordinates: Mapping[str, Described] | None = None,
    **attributes: str | float | int,
) -> Dataset:
    """Make a part of a study, with the attributes `units` and `long_name` of each variable.

    Args:
        variables: By name.
        coordinates: By name.
        attributes: Of the part.

    Returns:
        An `xarray.Dataset`.
    """
    import xarray as xr

    def described(dims: str | tuple[str, ...], values: Values, units: str, text: str) -> Any:
        return xr.Variable(dims, np.asarray(values), {"units": units, "long_name": text})

    return xr.Dataset(
        {name: described(*one) for name, one in variables.items()},
        {name: described(*one) for name, one in (coordinates or {}).items()},
        attributes,
    )


def attribute(data: Dataset, name: str) -> float:
    """Return a number among a part's attributes; nan where it is missing.

    A store leaves attributes out that are not finite.

    Args:
        data: The part.
        name: Of the attribute.
    """
    return float(data.attrs.get(name, np.nan))
