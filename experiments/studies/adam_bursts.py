"""Why Adam does not settle at its edge: its two-cycle on a quadratic is unstable.

Every adaptive method reaches its edge of stability on w^2/2, since nu decays until it is there, and
has a symmetric two-cycle of the amplitude a = 1 / critical sharpness. That of RMSProp is stable
(its multiplier is sqrt(b2)), and so is that of NAdam with b1 = 0.9; that of Adam with b1 = 0.9 is
not. A deviation grows until the iterates leave it in a burst, by which nu grows; then nu decays to
the edge again. Rod Flow is at rest on each two-cycle, and leaves it at nearly the same rate.
"""

import dataclasses
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax, jnp
from ..tables.base import MOST_TABLES, PositiveFloat, Table, refuse
from . import cycles
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import attribute, dataset

# A deviation up to here grows at its rate; one below is of rounding errors.
_LINEAR, _ROUNDING = 1e-3, 1e-12
# Rate times steps of a deviation that has decayed to a hundredth after three quarters of them.
_SETTLED = -6.2
# Steps of a deviation from which a rate is fitted, at least.
_FITTED = 10

_Share = Annotated[float, pydantic.Field(ge=0, lt=1)]
_NAMES = {"rmsprop": "RMSProp", "adam": "Adam", "nadam": "NAdam"}


class BurstMethod(Table):
    """`[[study.methods]]`: a method; its eps is 0, and it corrects no bias.

    Attributes:
        kind: Which.
        b1: The share of m that a step keeps; left out for RMSProp.
        b2: The share of nu.
    """

    kind: Literal["rmsprop", "adam", "nadam"]
    b1: _Share | None = None
    b2: Annotated[float, pydantic.Field(gt=0, lt=1)]

    @pydantic.model_validator(mode="after")
    def _momentum_where_there_is_one(self) -> "BurstMethod":
        if self.kind == "rmsprop" and self.b1 is not None:
            raise refuse("b1", f"given {self.b1:g}; must be left out: RMSProp has no momentum")
        if self.kind != "rmsprop" and self.b1 is None:
            raise refuse("b1", f"missing; {_NAMES[self.kind]} needs a number in [0, 1)")
        return self

    @property
    def part(self) -> str:
        """Its name in the store."""
        momentum = "" if self.b1 is None else f"-b1-{self.b1:g}"
        return f"{self.kind}{momentum}-b2-{self.b2:g}"

    @property
    def label(self) -> str:
        """Its name in figures."""
        momentum = "" if self.b1 is None else f", b1 = {self.b1:g}"
        return f"{_NAMES[self.kind]}{momentum}, b2 = {self.b2:g}"

    def build(self, learning_rate: float) -> cycles.Method:
        """Return the method."""
        if self.kind == "rmsprop":
            return flows.RMSProp(learning_rate, self.b2, 0.0)
        make = {"adam": flows.Adam, "nadam": flows.NAdam}[self.kind]
        return make(learning_rate, self.b1, self.b2, 0.0, bias_correction=False)


class AdamBursts(AbstractStudy):
    """`kind = "adam_bursts"`: growth rates at the two-cycles of adaptive methods on w^2/2.

    Attributes:
        learning_rate: eta; only the amplitude depends on it.
        methods: Which are compared.
        deviation: From the two-cycle at step 0, relative to it.
        steps: How long each deviation is followed.
        start: w at step 0 of a run that settles or does not, over that of the two-cycle; m and nu
            are as they are there.
        settling_steps: How long that run is.
    """

    kind: Literal["adam_bursts"]
    learning_rate: PositiveFloat = 0.1
    methods: Annotated[
        tuple[BurstMethod, ...],
        pydantic.Field(strict=False, min_length=1, max_length=MOST_TABLES),
    ]
    deviation: Annotated[float, pydantic.Field(ge=1e-10, le=1e-4)] = 1e-6
    steps: Annotated[int, pydantic.Field(ge=_FITTED, le=100_000)] = 600
    start: PositiveFloat = 1.5
    settling_steps: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 1500

    figures = ("adam_bursts",)

    @pydantic.model_validator(mode="after")
    def _methods_differ(self) -> "AdamBursts":
        for index, name in enumerate(self.parts):
            if name in self.parts[:index]:
                message = "names its part of the results as one before it; each must be its own"
                raise refuse(f"methods[{index}]", message)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate."""
        return {"learning_rate": self.learning_rate}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per method."""
        return tuple(one.part for one in self.methods)

    def check(self) -> None:
        """Build the methods."""
        for one in self.methods:
            one.build(self.learning_rate)

    def compute(self, part: str) -> Dataset:
        """Follow a small deviation and a large one; find the rates of the linear maps."""
        method = self.methods[self.parts.index(part)]
        of = method.build(self.learning_rate)
        values, vectors = cycles.multipliers(of)
        deviation = self._along_the_leading_mode(of, vectors[:, 0])
        iterates, ratio = (np.asarray(x) for x in self._settling(of))
        amplitude = 1 / float(of.critical_sharpness)
        return dataset(
            {
                "deviation": (
                    "step",
                    deviation,
                    "1",
                    "part of the relative deviation from the two-cycle in its leading mode",
                ),
                "amplitude": (
                    "settling_step",
                    np.abs(iterates) / amplitude,
                    "1",
                    "|w| over the amplitude of the two-cycle",
                ),
                "sharpness_ratio": (
                    "settling_step",
                    ratio,
                    "1",
                    "preconditioned sharpness over its critical value",
                ),
            },
            {
                "step": ("step", np.arange(self.steps + 1), "optimizer steps", "steps"),
                "settling_step": (
                    "settling_step",
                    np.arange(self.settling_steps + 1),
                    "optimizer steps",
                    "steps from a large deviation",
                ),
            },
            label=method.label,
            two_cycle=amplitude,
            growth=fitted_rate(deviation),
            multiplier_growth=float(np.log(np.abs(values[0]))),
            rod_growth=cycles.rod_growth(of),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare rates with the multiplier's, and say where large deviations end."""
        conclusions = []
        for data in parts.values():
            label, predicted = data.attrs["label"], attribute(data, "multiplier_growth")
            for name, key in (("two-cycle", "growth"), ("Rod Flow", "rod_growth")):
                quantity = f"{label}, {name}: growth per step of a deviation"
                conclusions.append(Conclusion(quantity, attribute(data, key), predicted))
            late = data["amplitude"].values[-(self.settling_steps // 4) :]
            quantity = f"{label}: largest |w| of the last quarter, over the two-cycle's"
            settled = 1.0 if predicted * self.settling_steps < _SETTLED else None
            conclusions.append(Conclusion(quantity, float(np.max(late)), settled))
        return conclusions

    def _along_the_leading_mode(self, of: cycles.Method, left: np.ndarray) -> np.ndarray:
        """Return the modulus of the leading mode's amplitude, of shape (steps + 1,).

        A pair of complex multipliers makes every coordinate oscillate; this modulus does not.
        """
        # Along no mode: each is in it.
        first = self.deviation * np.linspace(1.0, -0.5, left.size)
        path = jax.jit(lambda z: cycles.relative(of, z, self.steps))(jnp.asarray(first))
        return np.abs(np.asarray(path) @ (left / np.linalg.norm(left)))

    def _settling(self, of: cycles.Method) -> "tuple[jax.Array, jax.Array]":
        """Return w, and the preconditioned sharpness over its critical value, at each step."""
        cycle = cycles.on_the_cycle(of)
        first = dataclasses.replace(cycle, params=self.start * cycle.params)

        def step(state: Any, _: None) -> "tuple[Any, tuple[jax.Array, jax.Array]]":
            # The curvature is 1.
            sharpness = 1 / of.preconditioner(state, cycles.bowl)[0]
            now = of.params(state)[0], sharpness / of.critical_sharpness
            return of.step(state, cycles.bowl), now

        @jax.jit
        def run(state: Any) -> "tuple[jax.Array, jax.Array]":
            return jax.lax.scan(step, state, length=self.settling_steps + 1)[1]

        return run(first)


def fitted_rate(deviation: np.ndarray) -> float:
    """Return the slope of the logarithm of a deviation over the steps, before it is large.

    Args:
        deviation: At each step, from a small one on.

    Returns:
        Per step; nan where fewer than ten steps are neither too large nor of rounding size.
    """
    linear = np.flatnonzero(~((deviation > _ROUNDING) & (deviation < _LINEAR)))
    end = linear[0] if linear.size else deviation.size
    if end < _FITTED:
        return float("nan")
    return float(np.polyfit(np.arange(end), np.log(deviation[:end]), 1)[0])
