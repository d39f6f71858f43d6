"""The two-cycle that sharpness-aware minimisation ends on, and what rods make of it.

On a quadratic of sharpness S below 2/eta, SAM ends on a two-cycle along the top eigenvector, of
half-length eta S rho / (2 - eta S), on which its threshold is S. One rod has that cycle for its
ends. Several rods evaluate the map at their centre too, where it is not smooth over their length.
"""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp, potentials
from ..tables.base import PositiveFloat, refuse
from .fields import check_order
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

# The other curvature of the quadratic, relative to S.
_SECOND = 0.5
# Where all start: along both eigenvectors, some cycles away.
_START = (1.0, 0.7)
# Per step of SAM, of which there is one save at the end: several rods take many.
_SOLVER_STEPS = 300
_RANKS = {"rod_flow": 1, "two_rods": 2}

_DESCRIPTIONS = {
    "half_length": ("parameter", "half-length of the two-cycle, or of the longest rod"),
    "off_centre": ("parameter", "distance of the mean of two iterates, or of the centre, from 0"),
    "threshold": ("loss / parameter^2", "critical sharpness at the gradient of the last iterate"),
}


class SAMCycle(AbstractStudy):
    """`kind = "sam_cycle"`: where SAM and its rod flows end on a quadratic, against its sharpness.

    The sharpness S takes `points` values between `lowest` and `highest`, in units of 1/eta.

    Attributes:
        learning_rate: eta.
        radius: rho.
        smoothing: s, of SAM and of its flows.
        steps: How long each of them runs.
        lowest: The smallest eta S.
        highest: The largest.
        points: How many values S takes.
    """

    kind: Literal["sam_cycle"]
    learning_rate: PositiveFloat = 0.1
    radius: PositiveFloat = 0.05
    smoothing: PositiveFloat = 0.02
    steps: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 100
    lowest: PositiveFloat = 0.4
    highest: Annotated[float, pydantic.Field(gt=0, lt=2)] = 1.8
    points: Annotated[int, pydantic.Field(ge=2, le=1000)] = 29

    figures = ("sam_cycle",)

    @pydantic.model_validator(mode="after")
    def _the_cycle_is_longer_than_the_smoothing(self) -> "SAMCycle":
        check_order(self, "lowest", "highest")
        least = self.lowest**2 * self.radius / (self.learning_rate * (2 - self.lowest))
        if not self.smoothing < least:
            message = f"given {self.smoothing:g}; must be below {least:.3g}, the gradient on the"
            raise refuse("smoothing", f"{message} shortest cycle")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta, rho and s."""
        return {
            "learning_rate": self.learning_rate,
            "critical_sharpness": 2 / self.learning_rate,
            "radius": self.radius,
            "smoothing": self.smoothing,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """SAM, its flow with one rod, and that with two."""
        return ("sam", *_RANKS)

    def check(self) -> None:
        """Build the optimizer."""
        self._optimizer()

    def compute(self, part: str) -> Dataset:
        """Run one of them for all sharpnesses at once."""

        @eqx.filter_jit
        @jax.vmap
        def ends(sharpness: "jax.Array") -> "dict[str, jax.Array]":
            bowl = potentials.Quadratic(sharpness * jnp.asarray([1.0, _SECOND]))
            return self._iterates(bowl) if part == "sam" else self._rods(bowl, _RANKS[part])

        found = ends(jnp.asarray(self._sharpnesses))
        return dataset(
            {name: ("sharpness", value, *_DESCRIPTIONS[name]) for name, value in found.items()},
            {
                "sharpness": (
                    "sharpness",
                    self._sharpnesses,
                    "loss / parameter^2",
                    "largest eigenvalue S of the quadratic's Hessian",
                )
            },
            label=part,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare lengths with the formula, thresholds with S, and centres with 0."""
        conclusions = []
        formula = self._formula
        for part, data in parts.items():
            name = part.replace("_", " ").replace("sam", "SAM")
            deviation = np.abs(data["half_length"].values / formula - 1).max()
            quantity = f"{name}: largest relative error of the half-length"
            conclusions.append(Conclusion(quantity, float(deviation), 0.0))
            quantity = f"{name}: largest distance of the centre from 0"
            conclusions.append(Conclusion(quantity, float(data["off_centre"].values.max()), 0.0))
            if "threshold" in data:
                ratio = data["threshold"].values / self._sharpnesses
                quantity = f"{name}: largest |critical sharpness / S - 1|"
                conclusions.append(Conclusion(quantity, float(np.abs(ratio - 1).max()), 0.0))
        return conclusions

    @property
    def _sharpnesses(self) -> np.ndarray:
        return np.linspace(self.lowest, self.highest, self.points) / self.learning_rate

    @property
    def _formula(self) -> np.ndarray:
        """The half-length, where sqrt(|g|^2 + s^2) is that without smoothing."""
        sharpness = self._sharpnesses
        product = self.learning_rate * sharpness
        length = product * sharpness * self.radius / (2 - product)
        return np.sqrt(length**2 - self.smoothing**2) / sharpness

    def _optimizer(self) -> "flows.SAM":
        descent = flows.GradientDescent(self.learning_rate)
        return flows.SAM(descent, self.radius, self.smoothing)

    def _iterates(self, bowl: "potentials.Quadratic") -> "dict[str, jax.Array]":
        """Return what the last two iterates of SAM show."""
        of = self._optimizer()
        start = of.init(jnp.asarray(_START))
        state = jax.lax.fori_loop(0, self.steps, lambda _, state: of.step(state, bowl), start)
        last, after = of.params(state), of.params(of.step(state, bowl))
        return {
            "half_length": 0.5 * jnp.linalg.norm(after - last),
            "off_centre": 0.5 * jnp.linalg.norm(after + last),
            "threshold": of.critical_sharpness_at(last, bowl),
        }

    def _rods(self, bowl: "potentials.Quadratic", rank: int) -> "dict[str, jax.Array]":
        """Return where a rod flow is at the end."""
        run = flows.simulate(
            flows.RodFlow(self._optimizer(), rank, alignment=False),
            bowl,
            jnp.asarray(_START),
            self.steps,
            save_every=self.steps,
            measurements=(),
            max_solver_steps=_SOLVER_STEPS * self.steps,
        )
        return {
            "half_length": run.observables["rod_half_lengths"][-1, 0],
            "off_centre": jnp.linalg.norm(run.params[-1]),
        }
