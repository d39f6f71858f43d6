"""Two balls that start close together in a bowl with pits: whether they end together."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows
import potentials

from .study import AbstractStudy, Conclusion

_GRID = 181


class BallPits(AbstractStudy):
    """Paths of pairs of balls, one pair per radius, over the level sets of the bowl with pits.

    Args:
        pits: How many.
        depth: The largest depth.
        width: Of the pits.
        seed: Of the pits.
        radii: Of the balls.
        start: Parameters over which the first ball is dropped.
        offset: Where the second is dropped, from there.
        horizon: How long they roll, in units of flow time at learning rate 1.
        saves: Points of each path.
        candidates: Of the search for contacts, per parameter.
    """

    def __init__(
        self,
        *,
        pits: int,
        depth: float,
        width: float,
        seed: int,
        radii: tuple[float, ...],
        start: tuple[float, ...],
        offset: tuple[float, ...],
        horizon: float,
        saves: int,
        candidates: int,
    ):
        self._potential = potentials.GaussianPits(pits, depth, width, seed=seed)
        self._radii = {f"radius-{radius:g}": radius for radius in radii}
        first = np.asarray(start)
        self._starts = np.stack([first, first + np.asarray(offset)])
        self._rate, self._saves, self._candidates = horizon / saves, saves, candidates

    @property
    def attributes(self) -> dict[str, Any]:
        """How far apart the starts are."""
        return {"separation": float(np.linalg.norm(self._starts[1] - self._starts[0]))}

    @property
    def parts(self) -> tuple[str, ...]:
        """The landscape, and a pair per radius."""
        return ("ground", *self._radii)

    def compute(self, part: str) -> xr.Dataset:
        """Evaluate the landscape, or let a pair of balls roll."""
        return self._ground() if part == "ground" else self._pair(self._radii[part])

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Say how far apart each pair ends."""
        return [
            Conclusion(f"distance of the ends at radius {radius:g}", parts[name].attrs["apart"])
            for name, radius in self._radii.items()
            if name in parts
        ]

    def _ground(self) -> xr.Dataset:
        reach = 1.15 * max(1.0, float(np.abs(self._starts).max()))
        line = np.linspace(-reach, reach, _GRID)
        grid = jnp.asarray(np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1))
        loss = jax.jit(jax.vmap(jax.vmap(lambda p: self._potential(p))))(grid)
        return xr.Dataset(
            {"loss": (("x0", "x1"), np.asarray(loss), {"units": "loss", "long_name": "loss"})},
            {
                f"x{i}": (f"x{i}", line, {"units": "parameter", "long_name": f"parameter {i}"})
                for i in range(2)
            },
        )

    def _pair(self, radius: float) -> xr.Dataset:
        optimizer = flows.RollingBall(self._rate, radius, candidates=self._candidates)
        flow = flows.BallCentreFlow(optimizer, curvature=False)
        paths, contacts = [], []
        for place in self._starts:
            start = flows.drop(optimizer, self._potential, jnp.asarray(place))
            run = flows.simulate(
                flow,
                self._potential,
                start,
                self._saves,
                measurements=(),
                max_solver_steps=20_000,
            )
            paths.append(np.asarray(run.params))
            contacts.append(np.asarray(run.observables["contacts"]))
        centres = np.stack(paths)
        time = self._rate * np.arange(centres.shape[1])
        return xr.Dataset(
            {
                "centre": (
                    ("ball", "time", "parameter"),
                    centres,
                    {"units": "parameter", "long_name": "shadow of the ball's centre"},
                ),
                "contacts": (
                    ("ball", "time"),
                    np.stack(contacts),
                    {"units": "1", "long_name": "number of contacts"},
                ),
            },
            {"time": ("time", time, {"units": "1", "long_name": "learning rate * steps"})},
            {
                "label": f"radius = {radius:g}",
                "radius": radius,
                "apart": float(np.linalg.norm(centres[1, -1] - centres[0, -1])),
            },
        )
