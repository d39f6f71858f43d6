"""Where particles come to rest on a circle of minima, for several initial speeds.

Along the circle only friction acts (arXiv 2605.15459): the loss depends only on the radius, so
that the angular momentum decays as r^2 phi' = v exp(-gamma t). Hence a particle ends about
v / (gamma r) radians from where it started.
"""

from typing import Any, Literal

import numpy as np

from ..system.lazy import flows, jax, jnp, potentials
from ..tables.base import PositiveFloat, Seed, Size
from .fields import Positives, named
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset


class DimsRing(AbstractStudy):
    """`kind = "dims_ring"`: samples of the ring's circle of minima for several initial speeds.

    Attributes:
        radius: Of the ring, on which the particles start at (radius, 0).
        gravity: Weight of the loss in the energy.
        friction: Viscous coefficient.
        speeds: Standard deviations of the initial velocities' entries.
        samples: Particles for each of them.
        tolerance: Energy at rest.
        max_time: When a particle is given up.
        seed: Of the velocities, the same for all speeds.
    """

    kind: Literal["dims_ring"]
    radius: PositiveFloat = 1.0
    gravity: PositiveFloat = 10.0
    friction: PositiveFloat = 1.0
    speeds: Positives = (0.25, 0.5, 1.0, 2.0)
    samples: Size = 512
    tolerance: PositiveFloat = 1e-10
    max_time: PositiveFloat = 200.0
    seed: Seed = 0

    figures = ("dims_ring",)

    @property
    def attributes(self) -> dict[str, Any]:
        """Radius, gravity and friction."""
        return {"radius": self.radius, "gravity": self.gravity, "friction": self.friction}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per speed."""
        return tuple(named("speed", self.speeds))

    def check(self) -> None:
        """Build the potential and the flow."""
        potentials.Ring(self.radius)
        flows.DissipativeFlow(self.gravity, flows.Viscous(self.friction))

    def compute(self, part: str) -> Dataset:
        """Throw the particles of one speed."""
        from ..compare.mechanics import turned_angles

        speed, key = named("speed", self.speeds)[part], jax.random.key(self.seed)
        potential, start = potentials.Ring(self.radius), jnp.array([self.radius, 0.0])
        found = flows.sample_minima(
            potential,
            start,
            key,
            self.samples,
            speed=speed,
            gravity=self.gravity,
            friction=self.friction,
            tolerance=self.tolerance,
            max_time=self.max_time,
        )
        velocities = flows.random_velocities(start, key, self.samples, speed)
        flow = flows.DissipativeFlow(self.gravity, flows.Viscous(self.friction))
        angles = turned_angles(flow, potential, start, velocities, found.stopping_time)
        return dataset(
            {
                "params": (
                    ("sample", "parameter"),
                    found.params,
                    "parameter",
                    "where a sample rests",
                ),
                "angle": ("sample", angles, "radian", "angle by which it turned, turns counted"),
                "stopping_time": ("sample", found.stopping_time, "time", "when it came to rest"),
                "loss": ("sample", found.loss, "loss", "loss where it rests"),
                "converged": ("sample", found.converged, "1", "whether it came to rest"),
            },
            label=f"initial speed {speed:g}",
            speed=speed,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Spread of the angles, turns counted, mean stopping time, distance from the circle."""
        conclusions = []
        bound = np.sqrt(self.tolerance / self.gravity) / self.radius
        for data in parts.values():
            at = f"at speed {data.attrs['speed']:g}"
            rested = data["converged"].values
            deviation = float(data["angle"].values[rested].std()) if rested.any() else np.nan
            first_order = data.attrs["speed"] / (self.friction * self.radius)
            time = float(data["stopping_time"].values[rested].mean()) if rested.any() else np.nan
            off = np.abs(np.linalg.norm(data["params"].values, axis=1) - self.radius)
            farthest = float(off[rested].max(initial=0.0) / bound)
            conclusions += [
                Conclusion(f"share of samples at rest {at}", float(rested.mean()), 1.0),
                Conclusion(f"deviation of the angle {at} (v / (gamma r))", deviation, first_order),
                Conclusion(f"mean stopping time {at}", time),
                # Of the loss (|w|^2 - r^2)^2 / 4 <= E / grav, to first order.
                Conclusion(f"largest r | |w| - r | / sqrt(E / grav) {at} (at most)", farthest, 1.0),
            ]
        return conclusions
