"""How far gradient descent is from its Central Flow on the sharp valley, and why so far.

Near the edge of stability the valley is a slow motion (y) and an oscillation (x) of amplitude
sqrt(epsilon), so that as epsilon -> 0 gradient descent tends to the Central Flow with deviations of
order sqrt(epsilon). In the variables x1 = x / sqrt(epsilon), y1 = (y - 2/eta) / sqrt(epsilon) the
oscillation's amplitude |x1| and y1 circle around the flow, with an energy

    E = y1^2 / 2 + x1^2 / 4 - log|x1|

that would be conserved to leading order. To the next order it changes with t3 = epsilon * steps as
dE/dt3 = eta^2 (2 - 9 zeta^2) <y1^2>, where <.> averages over an orbit: for zeta below sqrt(2)/3 the
orbits grow, above it they settle on the flow.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp, potentials
from ..tables.base import PositiveFloat, refuse
from .fields import Distinct, named
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_DEVIATION, _ENERGY = "deviation", "energy"
_MAX_STEPS = 10**7
# A run is stored this many times: often enough to see each turn of the oscillation's envelope,
# which takes 2 pi / (eta sqrt(2 epsilon)) steps.
_STORED = 3000


class CentralScaling(AbstractStudy):
    """`kind = "central_scaling"`: how Central Flow's error scales on the sharp valley, and why.

    For each of `epsilons` gradient descent runs beside its Central Flow; for each of `zetas` it
    runs without one on the valley of `energy_epsilon`, where the oscillation's energy is measured.
    Each run takes `horizon` / epsilon steps.

    Attributes:
        learning_rate: eta.
        horizon: epsilon times the steps of each run.
        relaxation_time: Of the Central Flow, in steps.
        epsilons: Slopes of the valleys (zeta = 1) whose deviations are measured.
        zetas: Asymmetries of the valleys whose energies are measured.
        energy_epsilon: Slope of those.
    """

    kind: Literal["central_scaling"]
    learning_rate: PositiveFloat = 0.3
    horizon: PositiveFloat = 3.0
    relaxation_time: PositiveFloat = 0.25
    epsilons: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=2), Distinct
    ] = (1e-2, 1e-3, 1e-4)
    zetas: Annotated[tuple[float, ...], pydantic.Field(strict=False), Distinct] = (
        0.0,
        0.25,
        0.5,
        1.0,
    )
    energy_epsilon: PositiveFloat = 1e-5

    figures = ("central_scaling",)

    @pydantic.model_validator(mode="after")
    def _runs_are_of_a_length_that_ends(self) -> "CentralScaling":
        smallest = min((*self.epsilons, self.energy_epsilon))
        key = "energy_epsilon" if smallest == self.energy_epsilon else "epsilons"
        if self.horizon / smallest > _MAX_STEPS:
            message = f"given {smallest:g}; horizon / epsilon must be at most {_MAX_STEPS} steps"
            raise refuse(key, message)
        largest = max((*self.epsilons, self.energy_epsilon))
        if self.horizon / largest < 2:
            raise refuse("horizon", f"given {self.horizon:g}; must be at least {2 * largest:g}")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate and 2/eta."""
        return {
            "learning_rate": self.learning_rate,
            "critical_sharpness": self._edge,
            "time_label": "step",
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per epsilon, and one per zeta."""
        return (*named(_DEVIATION, self.epsilons), *named(_ENERGY, self.zetas))

    def check(self) -> None:
        """Build the optimizer and its flow."""
        self._flow()

    def compute(self, part: str) -> Dataset:
        """Compute the deviation for one epsilon, or the energy for one zeta."""
        epsilons = named(_DEVIATION, self.epsilons)
        if part in epsilons:
            return self._deviation(epsilons[part])
        return self._energy(named(_ENERGY, self.zetas)[part])

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Fit the deviations' power of epsilon, and set each energy's rate beside the law."""
        deviations = [
            (epsilon, parts[name].attrs["largest_deviation"])
            for name, epsilon in named(_DEVIATION, self.epsilons).items()
            if name in parts
        ]
        conclusions = [
            Conclusion(f"largest deviation at epsilon = {epsilon:g}", deviation)
            for epsilon, deviation in deviations
        ]
        if len(deviations) > 1:
            logarithms = np.log(np.array(deviations))
            slope = float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])
            conclusions.append(Conclusion("power of epsilon in the deviation", slope, 0.5))
        for name, zeta in named(_ENERGY, self.zetas).items():
            if name in parts:
                attrs = parts[name].attrs
                quantity = f"(dE/dt3) / <y1^2> at zeta = {zeta:g}"
                conclusions.append(Conclusion(quantity, attrs["rate"], attrs["predicted_rate"]))
        return conclusions

    @property
    def _edge(self) -> float:
        """The y of the edge of stability, where the valley's curvature is 2/eta."""
        return 2 / self.learning_rate

    def _flow(self) -> "flows.CentralFlow":
        optimizer = flows.GradientDescent(self.learning_rate)
        return flows.CentralFlow(optimizer, rank=2, relaxation_time=self.relaxation_time)

    def _steps(self, epsilon: float) -> int:
        return max(2, round(self.horizon / epsilon))

    def _deviation(self, epsilon: float) -> Dataset:
        # Well-posed: a start below the edge would let the oscillation decay to rounding errors.
        start = jnp.array([math.sqrt(epsilon), self._edge])
        potential, steps = potentials.SharpValley(epsilon, 1.0), self._steps(epsilon)
        every = max(1, steps // _STORED)
        # Pieces of one length, that of the shortest run, are compiled once for all of them.
        segment = min(_STORED, *(self._steps(other) for other in self.epsilons))
        run: dict[str, Any] = {
            "steps": steps - steps % every,
            "save_every": every,
            "segment": segment,
        }
        flow = self._flow()
        discrete = flows.iterate(flow.optimizer, potential, start, **run)
        central = flows.simulate(flow, potential, start, **run)
        deviation = np.asarray(flows.distance(central, discrete))
        midpoints, centres = discrete.midpoints("three_point"), central.params
        return dataset(
            {
                "distance": (
                    "step",
                    deviation,
                    "parameter",
                    "distance of the midpoint from Central Flow",
                ),
                "y": (
                    "step",
                    midpoints[:, 1],
                    "parameter",
                    "y of the midpoint of gradient descent",
                ),
                "centre_y": ("step", centres[:, 1], "parameter", "y of Central Flow"),
            },
            {"step": ("step", central.steps, "optimizer steps", "time of the save")},
            label=f"epsilon = {epsilon:g}",
            epsilon=epsilon,
            largest_deviation=float(deviation.max()),
            step_of_largest_deviation=int(deviation.argmax()),
        )

    def _energy(self, zeta: float) -> Dataset:
        epsilon = self.energy_epsilon
        unit = math.sqrt(epsilon)
        start = jnp.array([math.sqrt(2 * epsilon), self._edge + 1.5 * unit])
        potential, steps = potentials.SharpValley(epsilon, zeta), self._steps(epsilon)
        optimizer = flows.GradientDescent(self.learning_rate)
        run = flows.iterate(optimizer, potential, start, steps, measurements=(), segment=4096)
        path = np.asarray(run.params)
        x1, y1 = path[:, 0] / unit, (path[:, 1] - self._edge) / unit
        energy = y1**2 / 2 + x1**2 / 4 - np.log(np.abs(x1))
        squares = y1**2
        # By the trapezoidal rule; the fit then needs no orbit to be cut out of it.
        integral = epsilon * np.append(0.0, np.cumsum((squares[1:] + squares[:-1]) / 2))
        rate = float(np.polyfit(integral, energy, 1)[0])
        kept = slice(None, None, max(1, steps // _STORED))
        time = epsilon * np.asarray(run.steps)[kept]
        return dataset(
            {
                "energy": ("time", energy[kept], "1", "energy E of the oscillation"),
                "integral": ("time", integral[kept], "1", "integral of y1^2 over t3"),
            },
            {"time": ("time", time, "1", "t3 = epsilon * steps")},
            label=f"zeta = {zeta:g}",
            zeta=zeta,
            epsilon=epsilon,
            rate=rate,
            predicted_rate=self.learning_rate**2 * (2 - 9 * zeta**2),
        )
