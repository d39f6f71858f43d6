"""How many local minima a ball leaves of a rough line, against its radius."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, potentials
from .ball_ironing import GridPoints, Terms, at_creases, check_border
from .fields import Positives
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

# Interior local minima on [0, 2.1], by radius, of the ironed f(t) = sum over k = 1..100 of
# sin(k^2 t) / k^2, which goes on beyond both ends; counted on grids of spacing down to 1e-6.
_KNOWN = {0.0: 1562, 0.003: 203, 0.01: 69, 0.03: 25, 0.1: 9, 0.3: 3}
_SINE, _WEIERSTRASS = "weierstrass_sine", "weierstrass"


class BallMinima(AbstractStudy):
    """`kind = "ball_minima"`: local minima of ironed landscapes against the radius.

    The landscapes are the sum of sines on [0, 2.1] and Weierstrass's function on [-1, 1]. The
    radius 0, of the landscape itself, is counted too.

    Attributes:
        radii: Of the balls.
        terms: n of the sum of sines.
        points: Of the grid of each.
        weierstrass_terms: Of Weierstrass's function.
    """

    kind: Literal["ball_minima"]
    radii: Positives = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    terms: Terms = 100
    points: GridPoints = 1_050_001
    weierstrass_terms: Annotated[int, pydantic.Field(ge=1, le=12)] = 7

    figures = ("ball_minima",)

    @pydantic.model_validator(mode="after")
    def _the_grids_are_not_too_large(self) -> "BallMinima":
        # The shorter of the two lines has the finer grid.
        check_border(self.points, max(self.radii), 2.0)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The resolution."""
        return {"points": self.points, "terms": self.terms}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per potential."""
        return (_SINE, _WEIERSTRASS)

    def check(self) -> None:
        """Build the potentials."""
        for part in self.parts:
            self._line(part)

    def compute(self, part: str) -> Dataset:
        """Count for all radii."""
        label, potential, lower, upper = self._line(part)
        radii = (0.0, *sorted(self.radii))
        counts, creased = [], []
        for radius in radii:
            found = flows.ironed(potential, radius, lower=lower, upper=upper, points=self.points)
            counts.append(np.count_nonzero(found.minima))
            creased.append(at_creases(found))
        return dataset(
            {
                "minima": ("radius", counts, "1", "local minima"),
                "minima_at_creases": ("radius", creased, "1", "local minima at creases"),
            },
            {"radius": ("radius", radii, "parameter", "radius of the ball")},
            label=label,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Set the counts beside those that are known, and fit their power of the radius."""
        conclusions = []
        for name, data in parts.items():
            radii, counts = data["radius"].values, data["minima"].values
            known = _KNOWN if name == _SINE and self.terms == 100 else {}
            for radius, count in zip(radii, counts, strict=True):
                if radius in known:
                    quantity = f"local minima of the sum of sines at radius {radius:g}"
                    conclusions.append(Conclusion(quantity, float(count), known[float(radius)]))
            several = (radii > 0) & (counts > 2)
            if several.sum() > 1:
                slope = np.polyfit(np.log(radii[several]), np.log(counts[several]), 1)[0]
                conclusions.append(Conclusion(f"power of the radius, {data.label}", float(slope)))
        return conclusions

    def _line(self, part: str) -> "tuple[str, potentials.AbstractPotential, float, float]":
        """Return a part's label, its potential and the two ends of the line."""
        if part == _SINE:
            label = f"sum of {self.terms} sines on [0, 2.1]"
            return label, potentials.WeierstrassSine(self.terms), 0.0, 2.1
        label = f"Weierstrass, {self.weierstrass_terms} waves, on [-1, 1]"
        return label, potentials.Weierstrass(0.5, 3.0, self.weierstrass_terms), -1.0, 1.0
