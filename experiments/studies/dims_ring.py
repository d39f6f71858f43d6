"""Where particles come to rest on a circle of minima, for several initial speeds.

Along the circle only friction acts: the angular momentum decays as r^2 phi' = v exp(-gamma t)
(THEORY.md section 6), so that a particle ends about v / (gamma r) radians from where it started.
"""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

import flows
import potentials

from .study import AbstractStudy, Conclusion
from .variables import dataset, variable

# A particle of five standard deviations of the fastest speed in use turns by less than pi between.
_TURNS_PER_SAVE = 0.1


class DimsRing(AbstractStudy):
    """Samples of the ring's minima, for each of several speeds.

    Args:
        radius: of the ring, on which the particles start at (radius, 0).
        gravity: weight of the loss in the energy.
        friction: viscous coefficient.
        speeds: standard deviations of the initial velocities' entries.
        samples: particles for each of them.
        tolerance: energy at rest.
        max_time: when a particle is given up.
        seed: of the velocities, the same for all speeds.
    """

    def __init__(
        self,
        *,
        radius: float,
        gravity: float,
        friction: float,
        speeds: tuple[float, ...],
        samples: int,
        tolerance: float,
        max_time: float,
        seed: int,
    ):
        self._radius, self._gravity, self._friction = radius, gravity, friction
        self._speeds = {f"speed-{speed:g}": speed for speed in speeds}
        self._samples, self._tolerance, self._max_time = samples, tolerance, max_time
        self._key = jax.random.key(seed)
        self._potential = potentials.Ring(radius)
        self._start = jnp.array([radius, 0.0])

    @property
    def attributes(self) -> dict[str, Any]:
        """Radius, gravity and friction."""
        return {"radius": self._radius, "gravity": self._gravity, "friction": self._friction}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per speed."""
        return tuple(self._speeds)

    def compute(self, part: str) -> xr.Dataset:
        """Throw the particles of one speed."""
        speed = self._speeds[part]
        found = flows.sample_minima(
            self._potential,
            self._start,
            self._key,
            self._samples,
            speed=speed,
            gravity=self._gravity,
            friction=self._friction,
            tolerance=self._tolerance,
            max_time=self._max_time,
        )
        velocities = flows.random_velocities(self._start, self._key, self._samples, speed)
        most = float(jnp.max(jnp.linalg.norm(velocities, axis=1))) / self._radius
        end = float(jnp.max(found.stopping_time))
        saves = 2 + int(end * max(most, 1.0) / (10 * _TURNS_PER_SAVE))
        angles = np.unwrap(np.asarray(self._angles(velocities, end, saves)), axis=1)[:, -1]
        sample = "sample"
        return dataset(
            {
                "params": variable(
                    (sample, "parameter"), found.params, "parameter", "where a sample rests"
                ),
                "angle": variable(sample, angles, "radian", "unwrapped angle of where it rests"),
                "stopping_time": variable(
                    sample, found.stopping_time, "time", "when it came to rest"
                ),
                "loss": variable(sample, found.loss, "loss", "loss where it rests"),
                "converged": variable(sample, found.converged, "1", "whether it came to rest"),
            },
            label=f"initial speed {speed:g}",
            speed=speed,
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Spread of the angles, mean stopping time and distance from the circle."""
        conclusions = []
        bound = np.sqrt(self._tolerance / self._gravity) / self._radius
        for data in parts.values():
            at = f"at speed {data.attrs['speed']:g}"
            rested = data["converged"].values
            deviation = float(data["angle"].values[rested].std()) if rested.any() else np.nan
            first_order = data.attrs["speed"] / (self._friction * self._radius)
            time = float(data["stopping_time"].values[rested].mean()) if rested.any() else np.nan
            off = np.abs(np.linalg.norm(data["params"].values, axis=1) - self._radius)
            farthest = float(off[rested].max(initial=0.0) / bound)
            conclusions += [
                Conclusion(f"share of samples at rest {at}", float(rested.mean()), 1.0),
                Conclusion(f"deviation of the angle {at} (v / (gamma r))", deviation, first_order),
                Conclusion(f"mean stopping time {at}", time),
                Conclusion(
                    f"largest | |w| - r | / sqrt(E / grav) / r {at} (at most)", farthest, 1.0
                ),
            ]
        return conclusions

    def _angles(self, velocities: Array, end: float, saves: int) -> Array:
        """The angle of each particle along the way, (sample, save)."""
        flow = flows.DissipativeFlow(self._gravity, flows.Viscous(self._friction))
        solver, controller = flow.integrator(self._start.dtype)

        def field(t: Any, state: Any, args: Any) -> Any:
            return flow.vector_field(t, state, args)

        @eqx.filter_jit
        def run(velocities: Array) -> Array:
            def one(velocity: Array) -> Array:
                solution = diffrax.diffeqsolve(
                    diffrax.ODETerm(field),
                    solver,
                    t0=0.0,
                    t1=end,
                    dt0=None,
                    y0=flows.DissipativeState(self._start, velocity),
                    args=self._potential,
                    stepsize_controller=controller,
                    saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, end, saves)),
                    max_steps=10**5,
                )
                assert solution.ys is not None
                x, y = solution.ys.position.T
                return jnp.arctan2(y, x)

            return jax.vmap(one)(velocities)

        return run(velocities)
