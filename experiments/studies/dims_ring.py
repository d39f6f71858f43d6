"""Where particles come to rest on a circle of minima, for several initial speeds.

Along the circle only friction acts (arXiv 2605.15459): the loss depends on the radius alone, so
that the angular momentum decays as r^2 phi' = v exp(-gamma t). Hence a particle ends about
v / (gamma r) radians from where it started.
"""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

import flows
import potentials

from .study import AbstractStudy, Conclusion
from .variables import dataset, variable

# More than any particle takes that comes to rest.
_MAX_SOLVER_STEPS = 10**5


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
        flow = flows.DissipativeFlow(self._gravity, flows.Viscous(self._friction))
        angles = _turned(flow, self._potential, self._start, velocities, found.stopping_time)
        sample = "sample"
        return dataset(
            {
                "params": variable(
                    (sample, "parameter"), found.params, "parameter", "where a sample rests"
                ),
                "angle": variable(
                    sample, angles, "radian", "angle by which it turned, turns counted"
                ),
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
        """Spread of the angles, turns counted, mean stopping time, distance from the circle."""
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
                # Of the loss (|w|^2 - r^2)^2 / 4 <= E / grav, to first order.
                Conclusion(f"largest r | |w| - r | / sqrt(E / grav) {at} (at most)", farthest, 1.0),
            ]
        return conclusions


@eqx.filter_jit
def _turned(
    flow: flows.DissipativeFlow,
    potential: potentials.Ring,
    start: Float[Array, " 2"],
    velocities: Float[Array, "samples 2"],
    times: Float[Array, " samples"],
) -> Float[Array, " samples"]:
    """The angle by which each particle turns around the origin up to its time, turns counted.

    It is integrated beside the particle, phi' = (x v - y u) / (x^2 + y^2), so that no turn can be
    missed. Not a number where the integration failed.
    """
    solver, controller = flow.integrator(start.dtype)

    def field(t: Any, state: Any, args: Any) -> Any:
        particle, _ = state
        (x, y), (u, v) = particle.position, particle.velocity
        return flow.vector_field(t, particle, args), (x * v - y * u) / (x**2 + y**2)

    def one(velocity: Array, time: Array) -> Array:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            solver,
            t0=jnp.zeros_like(time),
            t1=time,
            dt0=None,
            y0=(flows.DissipativeState(start, velocity), jnp.zeros((), start.dtype)),
            args=potential,
            stepsize_controller=controller,
            max_steps=_MAX_SOLVER_STEPS,
            throw=False,
        )
        assert solution.ys is not None
        return jnp.where(solution.result == flows.RESULTS.successful, solution.ys[1][0], jnp.nan)

    return jax.vmap(one)(velocities, times)
