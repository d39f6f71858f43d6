"""A user's own trajectories as a results tree, for the figures that runs have."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike

import flows
from flows.core.trees import Params

from ..compare.landscape import landscape
from ..report.trajectory_summary import summarise
from .tracks import DISCRETE

Own: TypeAlias = flows.Trajectory | xr.Dataset | Mapping[str, ArrayLike]
"""A trajectory: of `iterate` or `simulate`, a dataset along `step`, or arrays (T, ...) by name."""

_DIMS = {"params": "parameter", "eigenvalues": "mode"}


def tree_of(
    trajectories: Mapping[str, Own],
    *,
    optimizer: flows.AbstractOptimizer | None = None,
    potential: flows.Potential | None = None,
    title: str = "",
) -> xr.DataTree:
    """Make a results tree of trajectories, which `figures.draw` draws as those of a stored run.

    Each flow gets its `distance` to the midpoints of the trajectory "discrete", at the steps that
    both have, where both have parameters. Those of a `Trajectory` are known to it; of arrays they
    are `params`, (T, ...), and the midpoints are (w_{t-1} + 2 w_t + w_{t+1}) / 4, for which every
    step has to be there.

    Args:
        trajectories: by name; "discrete" is the optimizer's, all others are flows. Of arrays,
            `step` is (T,), 0, 1, ... if it is not among them.
        optimizer: what was run, whose critical sharpness figures show; a line if it is one number.
        potential: the loss; with two parameters its level sets are computed around the paths.
        title: of the figures.

    Returns:
        The tree, with the group of each trajectory.

    Raises:
        ValueError: if a trajectory is nothing of the kind, or its arrays differ in length.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import figures
        >>> from experiments import tree_of
        >>> from flows import GradientDescent, GradientFlow, iterate, simulate
        >>> optimizer, start = GradientDescent(0.3), jnp.asarray([1.0, 2.0])
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> own = {
        ...     "discrete": iterate(optimizer, bowl, start, steps=5),
        ...     "gradient flow": simulate(GradientFlow(optimizer), bowl, start, steps=5),
        ...     "by hand": {"params": np.exp(-0.3 * np.arange(6))[:, None] * np.asarray(start)},
        ... }
        >>> tree = tree_of(own, optimizer=optimizer, potential=bowl)
        >>> figures.draw("paths", tree).axes[0].get_xlabel()
        'parameter 0'
        >>> tree["by hand"]["distance"].values[1:3].round(3).tolist()
        [0.041, 0.096]
        >>> drawn = figures.draw("distance", tree).axes[0].get_lines()
        >>> [line.get_label().split(" (")[0] for line in drawn]
        ['by hand', 'gradient flow']
    """
    found = {name: _dataset(name, one) for name, one in trajectories.items()}
    for name, one in trajectories.items():
        of_it = {"kind": "optimizer" if name == DISCRETE else "flow", "label": name}
        found[name] = found[name].assign_attrs(of_it)
        if name != DISCRETE and DISCRETE in found:
            found[name] = _compared(found[name], _midpoint(one), found[DISCRETE], trajectories)
    attributes = {"title": title, "time_label": "step"}
    if optimizer is not None:
        attributes |= _critical(optimizer)
    paths = [data["params"].values for data in found.values() if "params" in data]
    if potential is not None and paths and all(path.shape[1] == 2 for path in paths):
        like = _like(trajectories, jnp.asarray(paths[0][0]))
        found["landscape"] = landscape(potential, like, paths)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **found})


def _dataset(name: str, one: Own) -> xr.Dataset:
    if isinstance(one, flows.Trajectory):
        return one.to_dataset()
    if isinstance(one, xr.Dataset):
        if "step" not in one.coords:
            raise ValueError(f"trajectories: the dataset {name!r} has no coordinate 'step'.")
        return one
    if not isinstance(one, Mapping) or not one:
        raise ValueError(
            f"trajectories: {name!r} must be a Trajectory, a dataset along 'step' or arrays by "
            f"name; got {type(one).__name__}."
        )
    arrays = {key: np.asarray(value) for key, value in one.items()}
    lengths = {key: array.shape[0] if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"trajectories: the arrays of {name!r} differ in length, {lengths}.")
    steps = arrays.pop("step", np.arange(next(iter(lengths.values()))))
    if "params" in arrays:
        arrays["params"] = arrays["params"].reshape(len(steps), -1)
    return xr.Dataset(
        {
            key: (("step", *[_DIMS.get(key, f"{key}_{i}") for i in range(1, array.ndim)]), array)
            for key, array in arrays.items()
        },
        {"step": steps},
    )


def _midpoint(one: Own) -> flows.Midpoint | None:
    return one.midpoint if isinstance(one, flows.Trajectory) else "three_point"


def _compared(
    flow: xr.Dataset,
    kind: flows.Midpoint | None,
    discrete: xr.Dataset,
    trajectories: Mapping[str, Own],
) -> xr.Dataset:
    """Add `distance` and `displacement`, and the tracking error, where they can be known."""
    if kind is None or "distance" in flow or not {"params"} <= flow.keys() & discrete.keys():
        return flow
    steps, middles = _midpoints(trajectories[DISCRETE], discrete, kind)
    _, here, there = np.intersect1d(flow["step"].values, steps, return_indices=True)
    if not len(here) or flow.sizes["parameter"] != middles.shape[1]:
        return flow
    distance, displacement = (np.full(flow.sizes["step"], np.nan) for _ in range(2))
    distance[here] = np.linalg.norm(flow["params"].values[here] - middles[there], axis=1)
    displacement[here] = np.linalg.norm(middles[there] - middles[there[0]], axis=1)
    unit = {"units": "parameter"}
    flow = flow.assign(distance=("step", distance, unit), displacement=("step", displacement, unit))
    known = summarise(flow[["distance", "displacement"]].expand_dims("point"), np.inf)
    return flow.assign_attrs(tracking_error=float(known["tracking_error"][0]))


def _midpoints(one: Own, data: xr.Dataset, kind: flows.Midpoint) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of the midpoints of the iterates, and the midpoints, flat."""
    steps = data["step"].values
    if isinstance(one, flows.Trajectory):
        return steps, np.asarray(jax.vmap(lambda p: ravel_pytree(p)[0])(one.midpoints(kind)))
    path = data["params"].values
    follows = np.flatnonzero(np.diff(steps) == 1)
    if kind == "two_point":
        return steps[follows], (path[follows] + path[follows + 1]) / 2
    inner = follows[1:][np.diff(follows) == 1]
    middles = (path[inner - 1] + 2 * path[inner] + path[inner + 1]) / 4
    first = steps[:1] == 0
    # The path starts at the start itself.
    return (
        np.concatenate([steps[:1][first], steps[inner]]),
        np.concatenate([path[:1][first], middles]),
    )


def _like(trajectories: Mapping[str, Own], flat: Params) -> Params:
    """Return parameters of the structure that the loss takes; flat ones if none tells it."""
    for one in trajectories.values():
        if isinstance(one, flows.Trajectory):
            return jax.tree.map(lambda x: x[0], one.params)
    return flat


def _critical(optimizer: flows.AbstractOptimizer) -> dict[str, object]:
    try:
        value = float(np.asarray(optimizer.critical_sharpness))
    except (ValueError, TypeError):
        return {}
    decays = getattr(optimizer, "weight_decay", None) is not None
    plain = isinstance(optimizer, flows.GradientDescent) and not decays
    adaptive = isinstance(optimizer, flows.AbstractAdaptiveMethod)
    return {
        "critical_sharpness": value,
        "critical_label": "2/eta" if plain else "critical",
        "critical_variable": "preconditioned_sharpness" if adaptive else "sharpness",
    }
