"""The overdamped limit: with strong friction the mechanics is a Riemannian gradient flow.

In the time s = t / gamma the particle follows dw/ds = -grav g / (1 + |g|^2) as gamma -> infinity,
with an error of order 2 in 1/gamma from rest, and of order 1 with a fixed initial velocity: the
equation of motion of arXiv 2605.15459 with the inertia as the small term.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
from .variables import attribute, dataset, variable

# Friction makes the velocity stiff: over a given time s an explicit solver's steps are as gamma^2,
# while an implicit one takes fewer for a larger gamma.
_RTOL, _ATOL, _MAX_STEPS = 1e-9, 1e-12, 10**5
# An error in proportion to 1 / gamma^2 is told from the solver's down to so many times _RTOL.
_RESOLVED = 10.0
_SAVES = 101
_STARTS = {"from_rest": 2.0, "moving": 1.0}


class _Paths(NamedTuple):
    """The limit's path (time, 2), those of the mechanics (friction, time, 2), and which are whole.

    `limit_whole` is one boolean, `whole` one for every friction.
    """

    limit: Array
    paths: Array
    limit_whole: Array
    whole: Array


class DimsLimit(AbstractStudy):
    """Error of the limit on the ring against friction, from rest and with a velocity.

    Args:
        gravity: weight of the loss in the energy.
        start: where all runs start.
        velocity: initial velocity of the part "moving".
        horizon: s at the end.
        frictions: viscous coefficients gamma.
    """

    def __init__(
        self,
        *,
        gravity: float,
        start: tuple[float, ...],
        velocity: tuple[float, ...],
        horizon: float,
        frictions: tuple[float, ...],
    ):
        self._gravity, self._horizon = gravity, horizon
        self._start, self._velocity = jnp.array(start), jnp.array(velocity)
        self._frictions = tuple(sorted(frictions))
        self._potential = potentials.Ring()

    @property
    def attributes(self) -> dict[str, Any]:
        """Gravity and horizon."""
        return {"gravity": self._gravity, "horizon": self._horizon}

    @property
    def parts(self) -> tuple[str, ...]:
        """From rest, and moving."""
        return tuple(_STARTS)

    def compute(self, part: str) -> xr.Dataset:
        """Run for every friction."""
        velocity = self._velocity if part == "moving" else jnp.zeros_like(self._velocity)
        frictions = np.array(self._frictions)
        found = _run(
            self._potential,
            jnp.asarray(self._gravity),
            self._start,
            velocity,
            jnp.asarray(self._horizon),
            jnp.asarray(frictions),
        )
        self._check(found)
        limit, paths = np.asarray(found.limit), np.asarray(found.paths)
        error = np.linalg.norm(paths[:, -1] - limit[-1], axis=-1)
        s = np.linspace(0.0, self._horizon, _SAVES)
        return dataset(
            {
                "error": variable(
                    "friction", error, "parameter", "distance from the limit at the end"
                ),
                "params": variable(
                    ("friction", "time", "parameter"), paths, "parameter", "path of the particle"
                ),
                "limit": variable(
                    ("time", "parameter"), limit, "parameter", "path of the limiting flow"
                ),
            },
            {
                "friction": variable("friction", self._frictions, "1 / time", "gamma"),
                "time": variable("time", s, "time^2", "s = t / gamma"),
            },
            label=part.replace("_", " "),
            order=order_in_inverse(frictions, error, _RESOLVED * _RTOL * np.abs(limit).max()),
            predicted_order=_STARTS[part],
        )

    def _check(self, found: _Paths) -> None:
        """Refuse paths that the solver did not follow to their end.

        Raises:
            flows.SimulationError: if there is one.
        """
        whole = np.asarray(found.whole)
        lost = [f"friction {gamma:g}" for gamma in np.array(self._frictions)[~whole]]
        if not bool(found.limit_whole):
            lost.insert(0, "the limit")
        if lost:
            raise flows.SimulationError(
                f"no path to the horizon {self._horizon:g} within {_MAX_STEPS} solver steps for "
                f"{', '.join(lost)}",
                found,
            )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """The orders of the error, of the largest frictions, and the limit itself."""
        conclusions = [
            Conclusion(
                f"order of the error in 1 / gamma, {data.attrs['label']}",
                attribute(data, "order"),
                attribute(data, "predicted_order"),
            )
            for data in parts.values()
        ]
        if "from_rest" in parts:
            data = parts["from_rest"]
            conclusions += [
                Conclusion(f"error from rest at gamma = {gamma:g}", float(error))
                for gamma, error in zip(data["friction"].values, data["error"].values, strict=True)
            ]
        return conclusions


@eqx.filter_jit
def _run(
    potential: Any, gravity: Array, start: Array, velocity: Array, horizon: Array, frictions: Array
) -> _Paths:
    def solve(field: Any, state: Any, factor: Array) -> Any:
        end = factor * horizon
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Kvaerno5(),
            t0=0.0,
            t1=end,
            dt0=None,
            y0=state,
            args=potential,
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
            saveat=diffrax.SaveAt(ts=end * jnp.linspace(0.0, 1.0, _SAVES)),
            max_steps=_MAX_STEPS,
            throw=False,
        )

    def limit(s: Any, w: Array, args: Any) -> Array:
        gradient = jax.grad(args)(w)
        return -gravity * gradient / (1 + gradient @ gradient)

    def is_whole(solution: Any, path: Array) -> Array:
        return (solution.result == diffrax.RESULTS.successful) & jnp.isfinite(path).all()

    def one(gamma: Array) -> tuple[Array, Array]:
        flow = flows.DissipativeFlow(gravity, flows.Viscous(gamma))
        solution = solve(flow.vector_field, flows.DissipativeState(start, velocity), gamma)
        return solution.ys.position, is_whole(solution, solution.ys.position)

    limiting = solve(limit, start, jnp.ones_like(horizon))
    paths, whole = jax.vmap(one)(frictions)
    return _Paths(limiting.ys, paths, is_whole(limiting, limiting.ys), whole)


def order_in_inverse(frictions: np.ndarray, errors: np.ndarray, smallest: float) -> float:
    """The order of an error in 1 / gamma, fitted to the three largest frictions that tell it.

    Args:
        frictions: gamma, in ascending order.
        errors: for each of them.
        smallest: errors at most as large are the solver's own, and are left out.

    Returns:
        The order; nan where fewer than two errors are larger.
    """
    larger = errors > smallest
    gamma, error = frictions[larger][-3:], errors[larger][-3:]
    if len(gamma) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(gamma), np.log(error), 1)[0])
