"""Two-cycles of gradient descent and the heavy ball on the quartic, as equilibria of the flow.

On S w^2 / 2 - Q w^4 / 4 the two-cycles of the heavy ball with momentum beta are those of gradient
descent with learning rate eta / (1 + beta), and have closed forms: with s = eta S / (1 + beta),

    2 < s < 3:    w = +-d,       d^2 = (s - 2) u^2,        u^2 = (1 + beta) / (eta Q)
    3 < s:        w = c +- d,    d^2 = (s + 1) u^2 / 4,    c^2 = (s - 3) u^2 / 4

They are stable up to eta S = b + sqrt(4 b^2 + 1 + beta^2) with b = 1 + beta (1 + sqrt(5) for
gradient descent), where a cycle of period four takes over. The parity flow is at rest on each of
them, at any order. To settle there it must be stable too: towards period four the multipliers of
the doubled map turn to +-i, beyond the reach of the logarithm's series, and order 4 leaves the
two-cycle shortly before the optimizer does; with a momentum of 0.8 it does so on some that are
symmetric.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp, potentials
from ..tables.base import PositiveFloat
from .fields import Once, check_order
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_DESCENT, _BALL = "gradient_descent", "heavy_ball"
# Iterates that are kept of the end of each run: a cycle of period four is seen four times.
_LAST = 16
_RTOL, _ATOL = 1e-7, 1e-10
# Per step of the optimizer; explicit steps at order 4 are up to 25 near the period-four boundary.
_SOLVER_STEPS = 100
# The start of the flow is fitted at this step, and each save is at a multiple of it.
_SAVE_EVERY = 10
# Of |w_t - w_{t-2}| beside |w_t - w_{t-1}|, below which two iterates alternate.
_ALTERNATE = 1e-3
# Of the deviation from a two-cycle's |d| beside it, above which a flow has left it.
_AWAY = 1e-3


class ParityTwoCycles(AbstractStudy):
    """`kind = "parity_two_cycles"`: where optimizers and their parity flows end on the quartic.

    S takes `points` values, from `lowest` to `highest` times the threshold 2 (1 + beta) / eta.

    Attributes:
        learning_rate: eta, of both optimizers.
        momentum: beta of the heavy ball.
        quartic: Q.
        start: w at step 0.
        steps: How long each run is, a multiple of 10.
        lowest: The smallest S, over the threshold.
        highest: The largest.
        points: How many values S takes.
        orders: Of the flow.
    """

    kind: Literal["parity_two_cycles"]
    learning_rate: PositiveFloat = 1.0
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.2
    quartic: PositiveFloat = 1.0
    start: PositiveFloat = 0.1
    steps: Annotated[int, pydantic.Field(ge=50, le=100_000, multiple_of=_SAVE_EVERY)] = 500
    lowest: PositiveFloat = 0.91
    # Further out, gradient descent diverges.
    highest: Annotated[PositiveFloat, pydantic.Field(le=2)] = 1.63
    points: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 37
    orders: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1, le=4)], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = (1, 2, 3, 4)

    figures = ("parity_two_cycles",)

    @pydantic.model_validator(mode="after")
    def _curvatures_make_a_range(self) -> "ParityTwoCycles":
        check_order(self, "lowest", "highest")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate and Q; thresholds are attributes of the parts."""
        return {"learning_rate": self.learning_rate, "quartic": self.quartic}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per optimizer."""
        return (_DESCENT, _BALL)

    def check(self) -> None:
        """Build the flows."""
        for part in self.parts:
            for order in self.orders:
                self._flow(part, order)

    def compute(self, part: str) -> Dataset:
        """Run an optimizer and its flows for all curvatures at once."""
        curvatures = self._curvatures(part)
        given = jnp.asarray(curvatures)
        iterates = jax.jit(jax.vmap(lambda s: self._iterates(part, s)))(given)
        ends = [
            eqx.filter_jit(jax.vmap(lambda s, order=order: self._end(part, order, s)))(given)
            for order in self.orders
        ]
        centres, halves = (np.stack(values) for values in zip(*ends, strict=True))
        centre, half = self._formula(part)
        both = ("order", "curvature")
        beta = self._momentum(part)
        return dataset(
            {
                "iterates": (("curvature", "last"), iterates, "parameter", "last iterates"),
                "centre": (both, centres, "parameter", "c of the flow at the end"),
                "half_difference": (both, halves, "parameter", "d of the flow at the end"),
                "centre_formula": ("curvature", centre, "parameter", "|c| of the two-cycle"),
                "half_difference_formula": (
                    "curvature",
                    half,
                    "parameter",
                    "|d| of the two-cycle; 0 where there is none",
                ),
            },
            {
                "curvature": (
                    "curvature",
                    curvatures,
                    "loss / parameter^2",
                    "curvature S of the quartic at 0",
                ),
                "order": ("order", self.orders, "1", "order of the flow"),
            },
            label=part,
            momentum=beta,
            critical_sharpness=2 * (1 + beta) / self.learning_rate,
            symmetry_lost=3 * (1 + beta) / self.learning_rate,
            period_four=self._period_four(part),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare amplitudes with the formula, and find where two-cycles end."""
        conclusions = []
        for part, data in parts.items():
            name = part.replace("_", " ")
            curvature, expected = data["curvature"].values, data["half_difference_formula"].values
            symmetric = (expected > 0) & (curvature < data.attrs["symmetry_lost"])
            stable = (expected > 0) & (curvature < data.attrs["period_four"])
            last = data["iterates"].values[:, -3:]
            once, twice = (np.abs(last[:, 2] - last[:, 2 - lag]) for lag in (1, 2))
            halves = dict(zip(data["order"].values, data["half_difference"].values, strict=True))
            ends = {f"flow of order {order}": np.abs(values) for order, values in halves.items()}
            for label, found in {"iterates": once / 2, **ends}.items():
                deviation = np.abs(found - expected)
                largest = float(deviation[symmetric].max(initial=0.0))
                quantity = f"{name}, {label}: largest deviation of |d|, symmetric two-cycles"
                conclusions.append(Conclusion(quantity, largest, 0.0))
                away = stable & ~(deviation <= _AWAY * expected)
                if away.any():
                    quantity = f"{name}, {label}: leaves the two-cycle before period four, at S"
                    first, boundary = float(curvature[away].min()), data.attrs["period_four"]
                    conclusions.append(Conclusion(quantity, first, boundary))
            # A difference that is not a number is that of a run that diverged.
            leaves = (expected > 0) & ~(twice <= _ALTERNATE * once)
            if leaves.any():
                quantity = f"{name}, iterates: lowest S without a stable two-cycle"
                first, boundary = float(curvature[leaves].min()), data.attrs["period_four"]
                conclusions.append(Conclusion(quantity, first, boundary))
        return conclusions

    def _momentum(self, part: str) -> float:
        return self.momentum if part == _BALL else 0.0

    def _curvatures(self, part: str) -> np.ndarray:
        threshold = 2 * (1 + self._momentum(part)) / self.learning_rate
        return threshold * np.linspace(self.lowest, self.highest, self.points)

    def _period_four(self, part: str) -> float:
        """Return the curvature at which the two-cycle's multiplier is -1."""
        beta = self._momentum(part)
        return (1 + beta + math.sqrt(4 * (1 + beta) ** 2 + 1 + beta**2)) / self.learning_rate

    def _formula(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return |c| and |d| of the two-cycles."""
        unit = math.sqrt((1 + self._momentum(part)) / (self.learning_rate * self.quartic))
        s = 2 * np.linspace(self.lowest, self.highest, self.points)
        centre = np.sqrt(np.maximum(s - 3, 0)) / 2
        half = np.sqrt(np.where(s < 3, np.maximum(s - 2, 0), (s + 1) / 4))
        return unit * centre, unit * half

    def _optimizer(self, part: str) -> "flows.GradientDescent | flows.HeavyBall":
        if part == _BALL:
            return flows.HeavyBall(self.learning_rate, self.momentum)
        return flows.GradientDescent(self.learning_rate)

    def _flow(self, part: str, order: int) -> "flows.ParityFlow":
        # The remainder is not looked at.
        never = self.steps + 1
        return flows.ParityFlow(
            self._optimizer(part), order, burn=_SAVE_EVERY, remainder_every=never
        )

    def _iterates(self, part: str, curvature: "jax.Array") -> "jax.Array":
        """Return the last iterates of the optimizer, of shape (_LAST,)."""
        optimizer = self._optimizer(part)
        potential = potentials.Quartic(curvature, self.quartic)

        def step(state: Any, _: None) -> "tuple[Any, jax.Array]":
            state = optimizer.step(state, potential)
            return state, optimizer.params(state)[0]

        start = optimizer.init(jnp.array([self.start]))
        return jax.lax.scan(step, start, length=self.steps)[1][-_LAST:]

    def _end(self, part: str, order: int, curvature: "jax.Array") -> "tuple[jax.Array, jax.Array]":
        """Return c and d of the flow at the end; not finite where it diverged."""
        import diffrax

        run = flows.simulate(
            self._flow(part, order),
            potentials.Quartic(curvature, self.quartic),
            jnp.array([self.start]),
            self.steps,
            save_every=_SAVE_EVERY,
            measurements=(),
            solver=diffrax.Tsit5(),
            stepsize_controller=diffrax.PIDController(rtol=_RTOL, atol=_ATOL),
            max_solver_steps=_SOLVER_STEPS * _SAVE_EVERY,
            throw=False,
        )
        return run.params[-1, 0], run.observables["half_difference"][-1, 0]
