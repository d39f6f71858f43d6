"""Variables of a study's datasets, each with its unit and one line of description."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr


def variable(dims: str | Sequence[str], values: Any, units: str, description: str) -> xr.Variable:
    """Make a variable with the attributes `units` and `long_name`.

    Args:
        dims: names of its dimensions.
        values: array-like.
        units: the unit; "1" for a pure number.
        description: one line.
    """
    attributes = {"units": units, "long_name": description}
    return xr.Variable(dims, np.asarray(values), attributes)


def dataset(
    variables: Mapping[str, xr.Variable],
    coordinates: Mapping[str, xr.Variable] | None = None,
    **attributes: Any,
) -> xr.Dataset:
    """Make a part of a study of its variables, coordinates and attributes."""
    return xr.Dataset(dict(variables), dict(coordinates or {}), attributes)


def attribute(data: xr.Dataset, name: str) -> float:
    """A number among a part's attributes; nan where it is missing.

    A store leaves attributes out that are not finite.

    Args:
        data: the part.
        name: of the attribute.
    """
    return float(data.attrs.get(name, np.nan))
