"""Made-up results of sweeps, for the tests of figures."""

import numpy as np
import xarray as xr

RATES = np.array([0.1, 0.2, 0.4])
CURVATURES = np.array([1.0, 5.0, 10.0, 40.0])


def tree(data: xr.Dataset, quantity: str, spacings: tuple[str, ...]) -> xr.DataTree:
    """A sweep's results, its axes those of the dataset that are no series'."""
    axes = [str(dim) for dim in data.dims if dim not in ("trajectory", "step")]
    attributes = {
        "name": "tiny",
        "title": "A tiny sweep",
        "axes": axes,
        "keys": [f"optimizer.{axis}" for axis in axes],
        "spacings": list(spacings),
        "quantity": quantity,
        "critical_label": "2/eta",
    }
    found = xr.DataTree.from_dict({"sweep": data})
    found.attrs = attributes
    return found


def curves(seeds: int = 1) -> xr.DataTree:
    """Late sharpness of an optimizer and a flow over learning rates and seeds."""
    values = np.stack([1.9 / RATES, 2.0 / RATES], axis=1)[:, None, :] + np.zeros((3, seeds, 2))
    values += 0.1 * np.arange(seeds)[None, :, None]
    units = {"units": "loss / parameter^2"}
    data = xr.Dataset(
        {
            "late_sharpness": (("learning_rate", "seed", "trajectory"), values, units),
            "critical_sharpness": (("learning_rate", "seed"), np.tile(2 / RATES, (seeds, 1)).T),
        },
        {
            "learning_rate": RATES,
            "seed": np.arange(seeds),
            "trajectory": np.array(["discrete", "a_flow"], object),
        },
    )
    return tree(data, "late_sharpness", ("log", "linear"))


def diagram() -> xr.DataTree:
    """Outcomes that follow from eta S."""
    product = RATES[:, None] * CURVATURES
    words = np.select(
        [product < 2, product < 3.3, product < 4.1],
        ["converged", "two-cycle", "higher cycle"],
        "diverged",
    ).astype(object)
    data = xr.Dataset(
        {"outcome": (("learning_rate", "curvature"), words)},
        {"learning_rate": RATES, "curvature": CURVATURES},
    )
    return tree(data, "outcome", ("linear", "linear"))
