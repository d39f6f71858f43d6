"""What a ball makes of a rough line: ironed landscapes, and the paths of the ball's centre."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp, potentials
from ..tables.base import NonNegativeFloat, PositiveFloat, refuse
from .fields import Distinct, Saves, check_order, named
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

GridPoints = Annotated[int, pydantic.Field(ge=101, le=10_000_000)]
Terms = Annotated[int, pydantic.Field(ge=1, le=1000)]
# Of the grid that is stored: more than a figure can show.
_STORED = 4000
# The grid of the search for contacts must resolve the finest wave, of length 2 pi / n^2.
_POINTS_PER_WAVE = 4
_MOST_POINTS = 20_000_000


class BallIroning(AbstractStudy):
    """`kind = "ball_ironing"`: the sum of sines, ironed with several radii, and balls on it.

    The landscape is that of `potentials.WeierstrassSine(terms)` on [lower, upper]; a ball of each
    radius is dropped on it and rolls.

    Attributes:
        terms: n of the potential.
        lower: Left end.
        upper: Right end.
        points: Of the grid that is ironed.
        radii: Of the balls.
        start: The parameter over which the centre of each ball is dropped.
        horizon: How long it rolls, in units of time (learning rate times steps).
        saves: Points of its path.
    """

    kind: Literal["ball_ironing"]
    terms: Terms = 100
    lower: float = 0.0
    upper: float = 2.1
    points: GridPoints = 1_050_001
    radii: Annotated[
        tuple[NonNegativeFloat, ...], pydantic.Field(strict=False, min_length=1), Distinct
    ] = (0.0, 0.01, 0.03, 0.1, 0.3)
    start: float = 1.0
    horizon: PositiveFloat = 1.0
    saves: Saves = 100

    figures = ("ball_ironing",)

    @pydantic.model_validator(mode="after")
    def _the_grid_is_there_and_not_too_large(self) -> "BallIroning":
        check_order(self, "lower", "upper")
        check_border(self.points, max(self.radii), self.upper - self.lower)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The potential, and where the balls are dropped."""
        return {"potential": "weierstrass_sine", "terms": self.terms, "start": self.start}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per radius."""
        return tuple(named("radius", self.radii))

    def check(self) -> None:
        """Build the potential."""
        self._potential()

    def compute(self, part: str) -> Dataset:
        """Iron the landscape with one radius, and let a ball roll on it."""
        radius = named("radius", self.radii)[part]
        found = flows.ironed(
            self._potential(), radius, lower=self.lower, upper=self.upper, points=self.points
        )
        every = max(1, (self.points - 1) // _STORED)
        path = self._path(radius)
        minima = np.flatnonzero(found.minima)
        (x,) = found.coordinates
        time = self.horizon / self.saves * np.arange(len(path))
        return dataset(
            {
                "landscape": ("x", found.landscape[::every], "loss", "landscape"),
                "height": ("x", found.height[::every], "loss", "height of the centre"),
                "crease": ("crease", found.height[found.creases], "loss", "height of creases"),
                "minimum": ("minimum", found.height[minima], "loss", "height of minima"),
                "path_height": ("time", path[:, 1], "loss", "height of the rolling centre"),
                "path_x": ("time", path[:, 0], "parameter", "place of the rolling centre"),
                "contacts": ("time", path[:, 2], "1", "number of contacts"),
            },
            {
                "x": ("x", x[::every], "parameter", "parameter"),
                "crease_x": ("crease", x[found.creases], "parameter", "place of creases"),
                "minimum_x": ("minimum", x[minima], "parameter", "place of minima"),
                "time": ("time", time, "1", "learning rate * steps"),
            },
            label=f"radius = {radius:g}",
            radius=radius,
            minima=len(minima),
            minima_at_creases=at_creases(found),
            rest_x=float(path[-1, 0]),
            rest_height=float(path[-1, 1]),
            rest_contacts=int(path[-1, 2]),
            last_change=float(abs(path[-1, 1] - path[-2, 1])),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Say where each ball comes to rest, and on what the minima lie."""
        conclusions = []
        for data in parts.values():
            name = f"at radius {data.attrs['radius']:g}"
            minima = data.attrs["minima"]
            conclusions.append(Conclusion(f"local minima {name}", minima))
            if data.attrs["radius"] > 0:
                creased = data.attrs["minima_at_creases"]
                conclusions.append(Conclusion(f"of them at creases {name}", creased, minima))
            conclusions.append(Conclusion(f"resting place {name}", data.attrs["rest_x"]))
        return conclusions

    def _potential(self) -> "potentials.WeierstrassSine":
        return potentials.WeierstrassSine(self.terms)

    def _path(self, radius: float) -> np.ndarray:
        """Return place, height and contacts of a ball that is dropped and rolls, (time, 3)."""
        waves = 2 * radius * self.terms**2 / (2 * np.pi)
        # A ball of radius 0 has nothing to search.
        least = 128 if radius else 8
        candidates = max(least, int(np.ceil(_POINTS_PER_WAVE * waves)))
        rate = self.horizon / self.saves
        optimizer = flows.RollingBall(rate, radius, candidates=candidates)
        potential = self._potential()
        start = flows.drop(optimizer, potential, jnp.asarray([self.start]))
        flow = flows.BallCentreFlow(optimizer, curvature=False)
        run = flows.simulate(flow, potential, start, self.saves, measurements=())
        seen = run.observables
        columns = (run.params[:, 0], seen["centre_height"], seen["contacts"])
        return np.stack([np.asarray(column) for column in columns], axis=1)


def check_border(points: int, radius: float, length: float) -> None:
    """Refuse `radii` with which a grid and a border of the radius on both sides are too large.

    Args:
        points: Of the grid.
        radius: The largest radius.
        length: Of the grid, in parameters.
    """
    if points * (1 + 2 * radius / length) > _MOST_POINTS:
        message = f"given {radius:g}; with points = {points} a line of length {length:g} and a"
        raise refuse(
            "radii", f"{message} border of the radius have more than {_MOST_POINTS} points"
        )


def at_creases(ironed: "flows.Ironed") -> int:
    """Return how many local minima of an ironed line lie at creases, or next to one."""
    places = np.flatnonzero(ironed.minima)
    return int(np.sum(ironed.creases[places] | ironed.creases[places - 1]))
