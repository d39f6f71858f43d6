"""From the cells of all runs to one dataset whose dimensions are the swept keys."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ..store.status import DIVERGED, ENDED
from ..tables import SweepExperiment
from .cells import MISSING, describe
from .grid import coordinates

CONVERGED, TWO_CYCLE, HIGHER_CYCLE = "converged", "two-cycle", "higher cycle"
_OUTCOME = {
    "units": "1",
    "long_name": "how the discrete run behaves in the end: a fixed point, a cycle of two points, "
    "another bounded motion, or how it ended if that is all that is known",
}


def gather(config: SweepExperiment, cells: Sequence[xr.Dataset]) -> xr.Dataset:
    """Lay the cells of all runs on the grid.

    Args:
        config: the sweep.
        cells: of the runs so far.

    Returns:
        A dataset whose first dimensions are the axes of the sweep, with the swept values as
        coordinates. Where a run is missing, its numbers are nan and its `status` is "missing". A
        measured variable with the name of an axis gets `measured_` in front.
    """
    names, shape = config.sweep.names, config.sweep.shape
    count = int(np.prod(shape))
    everything = xr.Dataset(coords={"point": np.arange(count)})
    if cells:
        joined = xr.concat(
            list(cells), "point", join="outer", data_vars="all", coords="minimal", compat="override"
        )
        everything = joined.reindex(point=np.arange(count))
    for name, blank in {"status": MISSING, "message": "", "discrete_status": ""}.items():
        held = everything[name].values if name in everything else np.full(count, None, object)
        everything[name] = ("point", np.array([_text(one, blank) for one in held], object))
    everything["outcome"] = ("point", _outcomes(everything), _OUTCOME)
    described = describe(everything)
    laid = {}
    for name, variable in described.data_vars.items():
        values = variable.transpose("point", ...).values
        dims = [str(dim) for dim in variable.dims if dim != "point"]
        # An axis may have the name of something measured: the number of eigenvalues, say.
        called = f"measured_{name}" if name in names else name
        laid[called] = ((*names, *dims), values.reshape(*shape, *values.shape[1:]), variable.attrs)
    kept = {name: c for name, c in described.coords.items() if name != "point"}
    axes = {name: (name, *described) for name, described in coordinates(config).items()}
    return xr.Dataset(laid, {**kept, **axes})


def _outcomes(data: xr.Dataset) -> np.ndarray:
    words = {1: CONVERGED, 2: TWO_CYCLE}
    unknown = np.full(data.sizes["point"], np.nan)
    periods = np.asarray(data["period"].values if "period" in data else unknown, float)
    found = []
    for status, discrete, period in zip(
        data["status"].values, data["discrete_status"].values, periods, strict=True
    ):
        if status not in ENDED:
            found.append(status)
        elif discrete == DIVERGED or np.isnan(period):
            # A study has no discrete run.
            found.append(discrete or status)
        else:
            found.append(words.get(int(period), HIGHER_CYCLE))
    return np.array(found, object)


def _text(value: object, blank: str) -> str:
    return value if isinstance(value, str) else blank
