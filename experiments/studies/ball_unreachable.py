"""Which minima a ball can touch: wells of growing curvature, measured against rho sigma = 1."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp
from ..tables.base import PositiveFloat
from .fields import check_order
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

# Nearer to the bottom than this share of the radius counts as touching it.
_TOUCHING = 1e-3
# The wells are smooth over a tenth of the radius.
_CANDIDATES = 48

_DESCRIPTIONS = {
    "contact": ("parameter", "distance of the contact from the bottom, at rest"),
    "centre": ("parameter", "distance of the centre's shadow from the bottom, at rest"),
    "contacts": ("1", "number of contacts at rest"),
    "height": ("loss", "height of the centre at rest above that over the bottom"),
}


def _quadratic(curvature: "jax.Array", params: "jax.Array") -> "jax.Array":
    """Return sigma t^2 / 2, with t the one parameter."""
    return 0.5 * curvature.astype(params.dtype) * params[0] ** 2


def _gaussian(curvature: "jax.Array", params: "jax.Array") -> "jax.Array":
    """Return -exp(-sigma t^2 / 2), which has the curvature sigma at t = 0 too."""
    return -jnp.exp(-_quadratic(curvature, params))


_WELLS = {"quadratic": _quadratic, "gaussian": _gaussian}


class BallUnreachable(AbstractStudy):
    """`kind = "ball_unreachable"`: which wells a ball can touch, against radius times curvature.

    The products take `points` values from `lowest` to `highest`.

    Attributes:
        radius: rho of the ball.
        lowest: The smallest value of rho sigma.
        highest: The largest.
        points: How many there are.
        start: How far beside the bottom the ball is dropped, in radii.
        horizon: How long it rolls, in units of time (learning rate times steps).
    """

    kind: Literal["ball_unreachable"]
    radius: PositiveFloat = 0.5
    lowest: PositiveFloat = 0.25
    highest: PositiveFloat = 2.55
    points: Annotated[int, pydantic.Field(ge=2, le=1000)] = 24
    start: PositiveFloat = 0.8
    horizon: PositiveFloat = 6.0

    figures = ("ball_unreachable",)

    @pydantic.model_validator(mode="after")
    def _the_products_make_a_range(self) -> "BallUnreachable":
        check_order(self, "lowest", "highest")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The radius."""
        return {"radius": self.radius}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per shape of the well."""
        return tuple(_WELLS)

    def check(self) -> None:
        """Build the ball."""
        self._ball()

    def compute(self, part: str) -> Dataset:
        """Let a ball roll into the wells of all curvatures at once."""
        optimizer = self._ball()
        flow = flows.BallCentreFlow(optimizer, curvature=False)

        @eqx.filter_jit
        @jax.vmap
        def rest(curvature: "jax.Array") -> "dict[str, jax.Array]":
            well = jax.tree_util.Partial(_WELLS[part], curvature)
            start = flows.drop(optimizer, well, jnp.asarray([self.start * self.radius]))
            run = flows.simulate(flow, well, start, 1, measurements=(), max_solver_steps=20_000)
            seen = run.observables
            return {
                "contact": jnp.abs(seen["contact"][-1, 0]),
                "centre": jnp.abs(run.params[-1, 0]),
                "contacts": seen["contacts"][-1],
                "height": seen["centre_height"][-1] - well(jnp.zeros(1)) - self.radius,
            }

        products = np.linspace(self.lowest, self.highest, self.points)
        found = rest(jnp.asarray(products / self.radius))
        return dataset(
            {name: ("product", found[name], *_DESCRIPTIONS[name]) for name in found},
            {"product": ("product", products, "1", "radius times curvature of the well")},
            label=part,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare where contact ends with rho sigma = 1, and the contacts with a formula."""
        conclusions = []
        for name, data in parts.items():
            touched = data["contact"].values < _TOUCHING * self.radius
            products = data["product"].values
            below, above = products[touched], products[~touched]
            if below.size and above.size and below.max() < above.min():
                ends = float((below.max() + above.min()) / 2)
                half = (above.min() - below.max()) / 2
                quantity = f"rho sigma where contact ends (+-{half:.2g}), {name}"
                conclusions.append(Conclusion(quantity, ends, 1.0))
        if "quadratic" in parts:
            data = parts["quadratic"]
            products = data["product"].values
            formula = np.sqrt(np.maximum(products**2 - 1, 0)) * self.radius / products
            deviation = np.abs(data["contact"].values - formula)[products > 1].max(initial=0.0)
            quantity = "largest |contact - formula| on the quadratic"
            conclusions.append(Conclusion(quantity, float(deviation), 0.0))
        return conclusions

    def _ball(self) -> "flows.RollingBall":
        return flows.RollingBall(self.horizon, self.radius, candidates=_CANDIDATES)
