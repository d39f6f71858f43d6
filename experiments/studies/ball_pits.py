"""Two balls that start close together in a bowl with pits: whether they end together."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax, jnp, potentials
from ..tables.base import NonNegativeFloat, PositiveFloat, Seed, SmallSize
from .fields import Pair, Positives, Saves, named
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_GRID = 181


class BallPits(AbstractStudy):
    """`kind = "ball_pits"`: two balls from close starts in a bowl with pits, for several radii.

    The bowl is `potentials.GaussianPits(pits, depth, width, seed=seed)`; the paths of each pair lie
    over its level sets.

    Attributes:
        pits: How many.
        depth: The largest depth.
        width: Of the pits.
        seed: Of the pits.
        radii: Of the balls, one pair each.
        start: Parameters over which the centre of the first ball is dropped.
        offset: Where the second is dropped, from there.
        horizon: How long they roll, in units of time (learning rate times steps).
        saves: Points of each path.
        candidates: Of the search for contacts, per parameter.
    """

    kind: Literal["ball_pits"]
    pits: SmallSize = 40
    depth: NonNegativeFloat = 0.1
    width: PositiveFloat = 0.1
    seed: Seed = 0
    radii: Positives = (0.02, 0.1, 0.3, 1.0)
    start: Pair = (-0.9, 0.8)
    offset: Pair = (0.08, 0.06)
    horizon: PositiveFloat = 8.0
    saves: Saves = 80
    candidates: Annotated[int, pydantic.Field(ge=8, le=512)] = 25

    figures = ("ball_pits",)

    @property
    def attributes(self) -> dict[str, Any]:
        """How far apart the starts are."""
        return {"separation": float(np.linalg.norm(self._starts[1] - self._starts[0]))}

    @property
    def parts(self) -> tuple[str, ...]:
        """The landscape, and a pair per radius."""
        return ("ground", *named("radius", self.radii))

    def check(self) -> None:
        """Build the potential."""
        self._potential()

    def compute(self, part: str) -> Dataset:
        """Evaluate the landscape, or let a pair of balls roll."""
        return self._ground() if part == "ground" else self._pair(named("radius", self.radii)[part])

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Say how far apart each pair ends."""
        return [
            Conclusion(f"distance of the ends at radius {radius:g}", parts[name].attrs["apart"])
            for name, radius in named("radius", self.radii).items()
            if name in parts
        ]

    @property
    def _starts(self) -> np.ndarray:
        first = np.asarray(self.start)
        return np.stack([first, first + np.asarray(self.offset)])

    def _potential(self) -> "potentials.GaussianPits":
        return potentials.GaussianPits(self.pits, self.depth, self.width, seed=self.seed)

    def _ground(self) -> Dataset:
        reach = 1.15 * max(1.0, float(np.abs(self._starts).max()))
        line = np.linspace(-reach, reach, _GRID)
        grid = jnp.asarray(np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1))
        loss = jax.jit(jax.vmap(jax.vmap(self._potential())))(grid)
        return dataset(
            {"loss": (("x0", "x1"), loss, "loss", "loss")},
            {f"x{i}": (f"x{i}", line, "parameter", f"parameter {i}") for i in range(2)},
        )

    def _pair(self, radius: float) -> Dataset:
        rate = self.horizon / self.saves
        optimizer = flows.RollingBall(rate, radius, candidates=self.candidates)
        flow = flows.BallCentreFlow(optimizer, curvature=False)
        potential = self._potential()
        paths, contacts = [], []
        for place in self._starts:
            run = flows.simulate(
                flow,
                potential,
                flows.drop(optimizer, potential, jnp.asarray(place)),
                self.saves,
                measurements=(),
                max_solver_steps=20_000,
            )
            paths.append(np.asarray(run.params))
            contacts.append(np.asarray(run.observables["contacts"]))
        centres = np.stack(paths)
        time = rate * np.arange(centres.shape[1])
        return dataset(
            {
                "centre": (
                    ("ball", "time", "parameter"),
                    centres,
                    "parameter",
                    "shadow of the ball's centre",
                ),
                "contacts": (("ball", "time"), np.stack(contacts), "1", "number of contacts"),
            },
            {"time": ("time", time, "1", "learning rate * steps")},
            label=f"radius = {radius:g}",
            radius=radius,
            apart=float(np.linalg.norm(centres[1, -1] - centres[0, -1])),
        )
