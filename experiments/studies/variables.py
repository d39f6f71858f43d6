"""Variables of a study's datasets, each with its unit and one line of description."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .study import Dataset

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from xarray import Variable
else:
    ArrayLike = Variable = Any


def variable(
    dims: str | Sequence[str],
    values: ArrayLike | Sequence[float] | Sequence[Sequence[float]],
    units: str,
    description: str,
) -> Variable:
    """Make a variable with the attributes `units` and `long_name`.

    Args:
        dims: Names of its dimensions.
        values: Its values, of as many dimensions.
        units: The unit; "1" for a pure number.
        description: One line.
    """
    import xarray as xr

    return xr.Variable(dims, np.asarray(values), {"units": units, "long_name": description})


def dataset(
    variables: Mapping[str, Variable],
    coordinates: Mapping[str, Variable] | None = None,
    **attributes: str | float | int,
) -> Dataset:
    """Make a part of a study of its variables, coordinates and attributes."""
    import xarray as xr

    return xr.Dataset(dict(variables), dict(coordinates or {}), attributes)


def plane(values: Sequence[np.ndarray]) -> dict[str, Variable]:
    """Return the coordinates `x0` and `x1` of a grid of two parameters."""
    return {
        f"x{i}": variable(f"x{i}", axis, "parameter", f"parameter {i}")
        for i, axis in enumerate(values)
    }


def attribute(data: Dataset, name: str) -> float:
    """Return a number among a part's attributes; nan where it is missing.

    A store leaves attributes out that are not finite.

    Args:
        data: The part.
        name: Of the attribute.
    """
    return float(data.attrs.get(name, np.nan))
