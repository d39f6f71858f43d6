"""Which minima a ball can touch: wells of growing curvature, measured against rho sigma = 1."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

import flows

from .study import AbstractStudy, Conclusion

# Nearer to the bottom than this share of the radius counts as touching it.
_TOUCHING = 1e-3
# The wells are smooth over a tenth of the radius.
_CANDIDATES = 48


class _Well(eqx.Module):
    """sigma t^2 / 2, or -exp(-sigma t^2 / 2): wells of curvature sigma at t = 0."""

    curvature: Array
    gaussian: bool = eqx.field(static=True)

    def __call__(self, params: Array) -> Array:
        half = 0.5 * self.curvature.astype(params.dtype) * params[0] ** 2
        return -jnp.exp(-half) if self.gaussian else half


class BallUnreachable(AbstractStudy):
    """Where balls that roll into wells come to rest.

    Args:
        radius: rho of the ball.
        products: Values of rho sigma.
        start: Parameters of the centre from which it is dropped, in radii.
        horizon: How long it rolls, in units of flow time at learning rate 1.
    """

    def __init__(self, *, radius: float, products: tuple[float, ...], start: float, horizon: float):
        self._radius, self._products = radius, np.asarray(products)
        self._start, self._horizon = start * radius, horizon

    @property
    def attributes(self) -> dict[str, Any]:
        """The radius."""
        return {"radius": self._radius}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per shape of the well."""
        return ("quadratic", "gaussian")

    def compute(self, part: str) -> xr.Dataset:
        """Let a ball roll into the wells of all curvatures at once."""
        optimizer = flows.RollingBall(self._horizon, self._radius, candidates=_CANDIDATES)
        flow = flows.BallCentreFlow(optimizer, curvature=False)

        @eqx.filter_jit
        @jax.vmap
        def rest(curvature: Array) -> dict[str, Array]:
            well = _Well(curvature, part == "gaussian")
            start = flows.drop(optimizer, well, jnp.asarray([self._start]))
            run = flows.simulate(flow, well, start, 1, measurements=(), max_solver_steps=20_000)
            seen = run.observables
            return {
                "contact": jnp.abs(seen["contact"][-1, 0]),
                "centre": jnp.abs(run.params[-1, 0]),
                "contacts": seen["contacts"][-1],
                "height": seen["centre_height"][-1] - well(jnp.zeros(1)) - self._radius,
            }

        found = rest(jnp.asarray(self._products / self._radius))
        described = {
            "contact": ("parameter", "distance of the contact from the bottom, at rest"),
            "centre": ("parameter", "distance of the centre's shadow from the bottom, at rest"),
            "contacts": ("1", "number of contacts at rest"),
            "height": ("loss", "height of the centre at rest above that over the bottom"),
        }
        return xr.Dataset(
            {
                name: (
                    "product",
                    np.asarray(values),
                    {"units": described[name][0], "long_name": described[name][1]},
                )
                for name, values in found.items()
            },
            {
                "product": (
                    "product",
                    self._products,
                    {"units": "1", "long_name": "radius times curvature of the well"},
                )
            },
            {"label": part},
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Compare where contact ends with rho sigma = 1, and the contacts with a formula."""
        conclusions = []
        for name, data in parts.items():
            touched = data["contact"].values < _TOUCHING * self._radius
            products = data["product"].values
            if touched.any() and not touched.all():
                sharpest, next_one = products[touched].max(), products[~touched].min()
                middle = float((sharpest + next_one) / 2)
                conclusions.append(Conclusion(f"rho sigma where contact ends, {name}", middle, 1.0))
        if "quadratic" in parts:
            data = parts["quadratic"]
            products = data["product"].values
            formula = np.sqrt(np.maximum(products**2 - 1, 0)) * self._radius / products
            deviation = np.abs(data["contact"].values - formula)[products > 1].max(initial=0.0)
            quantity = "largest |contact - formula| on the quadratic"
            conclusions.append(Conclusion(quantity, float(deviation), 0.0))
        return conclusions
