"""How many local minima a ball leaves of a rough line, against its radius."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

import flows
import potentials

from .study import AbstractStudy, Conclusion

# Interior local minima on [0, 2.1], by radius, of the ironed f(t) = sum over k = 1..100 of
# sin(k^2 t) / k^2, which goes on beyond both ends; counted on grids of spacing down to 1e-6.
_KNOWN = {0.0: 1562, 0.003: 203, 0.01: 69, 0.03: 25, 0.1: 9, 0.3: 3}


class BallMinima(AbstractStudy):
    """Interior local minima of ironed landscapes.

    Args:
        radii: Of the balls, above 0; 0 is added.
        terms: n of the sum of sines.
        points: Of the grids.
        weierstrass_terms: Of Weierstrass's function.
    """

    def __init__(
        self, *, radii: tuple[float, ...], terms: int, points: int, weierstrass_terms: int
    ):
        self._radii = (0.0, *sorted(radii))
        self._terms, self._points = terms, points
        waves = potentials.Weierstrass(0.5, 3.0, weierstrass_terms)
        self._potentials: dict[str, tuple[str, Callable[..., Any], float, float]] = {
            "weierstrass_sine": (
                f"sum of {terms} sines on [0, 2.1]",
                potentials.WeierstrassSine(terms),
                0.0,
                2.1,
            ),
            "weierstrass": (f"Weierstrass, {weierstrass_terms} waves, on [-1, 1]", waves, -1, 1),
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """The resolution."""
        return {"points": self._points, "terms": self._terms}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per potential."""
        return tuple(self._potentials)

    def compute(self, part: str) -> xr.Dataset:
        """Count for all radii."""
        label, potential, lower, upper = self._potentials[part]
        counts, at_creases = [], []
        for radius in self._radii:
            found = flows.ironed(potential, radius, lower=lower, upper=upper, points=self._points)
            places = np.flatnonzero(found.minima)
            counts.append(len(places))
            at_creases.append(int(np.sum(found.creases[places] | found.creases[places - 1])))
        return xr.Dataset(
            {
                "minima": ("radius", counts, {"units": "1", "long_name": "local minima"}),
                "minima_at_creases": (
                    "radius",
                    at_creases,
                    {"units": "1", "long_name": "local minima at creases"},
                ),
            },
            {
                "radius": (
                    "radius",
                    np.array(self._radii),
                    {"units": "parameter", "long_name": "radius of the ball"},
                )
            },
            {"label": label},
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Set the counts beside those that are known, and fit their power of the radius."""
        conclusions = []
        for name, data in parts.items():
            radii, counts = data["radius"].values, data["minima"].values
            known = _KNOWN if name == "weierstrass_sine" and self._terms == 100 else {}
            for radius, count in zip(radii, counts, strict=True):
                if radius in known:
                    quantity = f"local minima of the sum of sines at radius {radius:g}"
                    conclusions.append(Conclusion(quantity, float(count), known[float(radius)]))
            several = (radii > 0) & (counts > 2)
            if several.sum() > 1:
                slope = np.polyfit(np.log(radii[several]), np.log(counts[several]), 1)[0]
                conclusions.append(Conclusion(f"power of the radius, {data.label}", float(slope)))
        return conclusions
