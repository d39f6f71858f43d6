"""The loss on a grid around the paths, for potentials of two parameters."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

import flows

_POINTS = 161
_MARGIN = 0.15
# A path that diverges is shown up to this multiple of its median distance from the start.
_REACH = 10.0
# Points evaluated at once: a loss over many examples takes memory for each.
_BATCH = 32


def landscape(
    potential: flows.Potential, params: PyTree[Array], paths: Sequence[np.ndarray]
) -> xr.Dataset:
    """Evaluate a potential of two parameters on a grid that covers paths with a margin.

    Args:
        potential: the loss.
        params: parameters as the loss takes them, two numbers in all.
        paths: arrays of shape (n, 2), at least one of them with a finite point.

    Returns:
        `loss` over the coordinates `x0` and `x1`, the two entries of the flattened parameters.
    """
    low, high = _box(paths)
    _, unravel = ravel_pytree(params)
    dtype = ravel_pytree(params)[0].dtype
    axes = [np.linspace(low[i], high[i], _POINTS).astype(dtype) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)

    @jax.jit
    def losses(points: jax.Array) -> jax.Array:
        return jax.lax.map(lambda point: potential(unravel(point)), points, batch_size=_BATCH)

    loss = losses(jnp.asarray(grid))
    attributes = {"units": "loss", "long_name": "loss on a grid"}
    coordinates = {
        f"x{i}": (f"x{i}", axes[i], {"units": "parameter", "long_name": f"parameter {i}"})
        for i in range(2)
    }
    return xr.Dataset(
        {"loss": (("x0", "x1"), np.asarray(loss).reshape(_POINTS, _POINTS), attributes)},
        coordinates,
        {"x0_name": "parameter 0", "x1_name": "parameter 1"},
    )


def _box(paths: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    kept = []
    for path in paths:
        points = np.asarray(path, dtype=float)
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            distances = np.abs(points - points[0]).max(axis=1)
            reach = _REACH * np.median(distances)
            kept.append(points[distances <= reach] if reach > 0 else points[:1])
    points = np.concatenate(kept)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-3 * np.maximum(np.abs(high), 1.0))
    # Keep the shorter side at least a twentieth of the longer one.
    size = np.maximum(size, 0.05 * size.max())
    middle = (low + high) / 2
    half = (0.5 + _MARGIN) * size
    return middle - half, middle + half
