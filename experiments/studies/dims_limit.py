"""The overdamped limit: with strong friction the mechanics is a Riemannian gradient flow.

In the time s = t / gamma the particle follows dw/ds = -grav g / (1 + |g|^2) as gamma -> infinity,
with an error of order 2 in 1/gamma from rest, and of order 1 with a fixed initial velocity: the
equation of motion of arXiv 2605.15459 with the inertia as the small term.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp, potentials
from ..tables.base import PositiveFloat
from .fields import Distinct, Pair
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import attribute, dataset

if TYPE_CHECKING:
    from ..compare.mechanics import OverdampedPaths

# Errors of at least so many times the solver's relative tolerance are those of the limit.
_RESOLVED = 10.0
_ORDERS = {"from_rest": 2.0, "moving": 1.0}


class DimsLimit(AbstractStudy):
    """`kind = "dims_limit"`: how dissipative mechanics tends to a Riemannian gradient flow.

    The error of the limit on the ring against friction, from rest and with a velocity.

    Attributes:
        gravity: Weight of the loss in the energy.
        start: Where all runs start.
        velocity: Initial velocity of the part "moving".
        horizon: s at the end.
        frictions: Viscous coefficients gamma.
    """

    kind: Literal["dims_limit"]
    gravity: PositiveFloat = 1.0
    start: Pair = (0.3, 0.2)
    velocity: Pair = (0.5, 0.2)
    horizon: PositiveFloat = 1.0
    frictions: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=2), Distinct
    ] = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)

    figures = ("dims_limit",)

    @property
    def attributes(self) -> dict[str, Any]:
        """Gravity and horizon."""
        return {"gravity": self.gravity, "horizon": self.horizon}

    @property
    def parts(self) -> tuple[str, ...]:
        """From rest, and moving."""
        return tuple(_ORDERS)

    def check(self) -> None:
        """Build the flows."""
        for gamma in self.frictions:
            flows.DissipativeFlow(self.gravity, flows.Viscous(gamma))

    def compute(self, part: str) -> Dataset:
        """Run for every friction."""
        from ..compare import mechanics

        frictions = np.sort(self.frictions)
        velocity = self.velocity if part == "moving" else (0.0, 0.0)
        found = mechanics.overdamped_paths(
            potentials.Ring(),
            *(
                jnp.asarray(value)
                for value in (self.gravity, self.start, velocity, self.horizon, frictions)
            ),
        )
        _check_whole(found, self.horizon, frictions)
        limit, paths = np.asarray(found.limit), np.asarray(found.paths)
        error = np.linalg.norm(paths[:, -1] - limit[-1], axis=-1)
        smallest = _RESOLVED * mechanics.RTOL * np.abs(limit).max()
        s = np.linspace(0.0, self.horizon, mechanics.SAVES)
        return dataset(
            {
                "error": ("friction", error, "parameter", "distance from the limit at the end"),
                "params": (
                    ("friction", "time", "parameter"),
                    paths,
                    "parameter",
                    "path of the particle",
                ),
                "limit": (("time", "parameter"), limit, "parameter", "path of the limiting flow"),
            },
            {
                "friction": ("friction", frictions, "1 / time", "gamma"),
                "time": ("time", s, "time^2", "s = t / gamma"),
            },
            label=part.replace("_", " "),
            order=order_in_inverse(frictions, error, smallest),
            predicted_order=_ORDERS[part],
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
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


def _check_whole(found: "OverdampedPaths", horizon: float, frictions: np.ndarray) -> None:
    """Refuse paths that the solver did not follow to their end.

    Raises:
        flows.SimulationError: if there is one.
    """
    from ..compare.mechanics import MAX_SOLVER_STEPS

    lost = [f"friction {gamma:g}" for gamma in frictions[~np.asarray(found.whole)]]
    if not bool(found.limit_whole):
        lost.insert(0, "the limit")
    if lost:
        raise flows.SimulationError(
            f"no path to the horizon {horizon:g} within {MAX_SOLVER_STEPS} solver steps for "
            f"{', '.join(lost)}",
            found,
        )


def order_in_inverse(frictions: np.ndarray, errors: np.ndarray, smallest: float) -> float:
    """Fit the order of an error in 1 / gamma to the three largest frictions that show it.

    Args:
        frictions: gamma, in ascending order.
        errors: For each of them.
        smallest: Errors at most as large are the solver's own, and are left out.

    Returns:
        The order; nan where fewer than two errors are larger.
    """
    larger = errors > smallest
    gamma, error = frictions[larger][-3:], errors[larger][-3:]
    if len(gamma) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(gamma), np.log(error), 1)[0])
