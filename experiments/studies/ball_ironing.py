"""What a ball makes of a rough line: ironed landscapes, and the paths of the ball's centre."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows
import potentials

from .study import AbstractStudy, Conclusion

# Of the grid that is stored: more than a figure can show.
_STORED = 4000
# The grid of the search for contacts must resolve the finest wave, of length 2 pi / n^2.
_POINTS_PER_WAVE = 4


class BallIroning(AbstractStudy):
    """The sum of sines and what balls of several radii see of it.

    Args:
        terms: n of the potential.
        lower: Left end.
        upper: Right end.
        points: Of the grid that is ironed.
        radii: Of the balls.
        start: Parameters of the centre from which each ball is dropped.
        horizon: How long it rolls, in units of flow time at learning rate 1.
        saves: Points of its path.
    """

    def __init__(
        self,
        *,
        terms: int,
        lower: float,
        upper: float,
        points: int,
        radii: tuple[float, ...],
        start: float,
        horizon: float,
        saves: int,
    ):
        self._terms, self._start = terms, start
        self._potential = potentials.WeierstrassSine(terms)
        self._ends, self._points = (lower, upper), points
        self._rate, self._saves = horizon / saves, saves
        self._radii = {f"radius-{radius:g}": radius for radius in radii}

    @property
    def attributes(self) -> dict[str, Any]:
        """The potential, and where the balls are dropped."""
        return {"potential": "weierstrass_sine", "terms": self._terms, "start": self._start}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per radius."""
        return tuple(self._radii)

    def compute(self, part: str) -> xr.Dataset:
        """Iron the landscape with one radius, and let a ball roll on it."""
        radius = self._radii[part]
        lower, upper = self._ends
        found = flows.ironed(self._potential, radius, lower=lower, upper=upper, points=self._points)
        every = max(1, (self._points - 1) // _STORED)
        path = self._path(radius)
        rest, slope = path[-1], abs(path[-1, 1] - path[-2, 1])

        def along(dim: str, values: np.ndarray, units: str, name: str) -> tuple[Any, ...]:
            return (dim, values, {"units": units, "long_name": name})

        minima = np.flatnonzero(found.minima)
        (x,) = found.coordinates
        return xr.Dataset(
            {
                "landscape": along("x", found.landscape[::every], "loss", "landscape"),
                "height": along("x", found.height[::every], "loss", "height of the centre"),
                "crease": along("crease", found.height[found.creases], "loss", "height of creases"),
                "minimum": along("minimum", found.height[minima], "loss", "height of minima"),
                "path_height": along("time", path[:, 1], "loss", "height of the rolling centre"),
                "path_x": along("time", path[:, 0], "parameter", "place of the rolling centre"),
                "contacts": along("time", path[:, 2], "1", "number of contacts"),
            },
            {
                "x": along("x", x[::every], "parameter", "parameter"),
                "crease_x": along("crease", x[found.creases], "parameter", "place of creases"),
                "minimum_x": along("minimum", x[minima], "parameter", "place of minima"),
                "time": along(
                    "time", self._rate * np.arange(len(path)), "1", "learning rate * steps"
                ),
            },
            {
                "label": f"radius = {radius:g}",
                "radius": radius,
                "minima": len(minima),
                "minima_at_creases": int(np.sum(found.creases[minima] | found.creases[minima - 1])),
                "rest_x": float(rest[0]),
                "rest_height": float(rest[1]),
                "rest_contacts": int(rest[2]),
                "last_change": float(slope),
            },
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Say where each ball comes to rest, and on what the minima lie."""
        conclusions = []
        for data in parts.values():
            name = f"at radius {data.attrs['radius']:g}"
            minima = data.attrs["minima"]
            conclusions.append(Conclusion(f"local minima {name}", minima))
            if data.attrs["radius"] > 0:
                at_creases = data.attrs["minima_at_creases"]
                conclusions.append(Conclusion(f"of them at creases {name}", at_creases, minima))
            conclusions.append(Conclusion(f"resting place {name}", data.attrs["rest_x"]))
        return conclusions

    def _path(self, radius: float) -> np.ndarray:
        """Place, height and contacts of a ball that is dropped and rolls."""
        waves = 2 * radius * self._terms**2 / (2 * np.pi)
        # A ball of radius 0 has nothing to search.
        least = 128 if radius else 8
        candidates = max(least, int(np.ceil(_POINTS_PER_WAVE * waves)))
        optimizer = flows.RollingBall(self._rate, radius, candidates=candidates)
        start = flows.drop(optimizer, self._potential, jnp.asarray([self._start]))
        flow = flows.BallCentreFlow(optimizer, curvature=False)
        run = flows.simulate(flow, self._potential, start, self._saves, measurements=())
        seen = run.observables
        columns = (run.params[:, 0], seen["centre_height"], seen["contacts"])
        return np.stack([np.asarray(column) for column in columns], axis=1)
