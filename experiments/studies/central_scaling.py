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
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows
import potentials

from .study import AbstractStudy, Conclusion

# A run is stored this many times: often enough to see each turn of the oscillation's envelope,
# which takes 2 pi / (eta sqrt(2 epsilon)) steps.
_STORED = 3000


class CentralScaling(AbstractStudy):
    """Deviation of gradient descent from Central Flow against epsilon, and its energy law.

    Args:
        learning_rate: eta.
        horizon: epsilon times the steps of each run.
        relaxation_time: of the Central Flow, in steps.
        epsilons: slopes of the valleys (zeta = 1) whose deviations are measured.
        zetas: asymmetries of the valleys whose energies are measured.
        energy_epsilon: slope of those.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        horizon: float,
        relaxation_time: float,
        epsilons: tuple[float, ...],
        zetas: tuple[float, ...],
        energy_epsilon: float,
    ):
        self._optimizer = flows.GradientDescent(learning_rate)
        self._flow = flows.CentralFlow(self._optimizer, rank=2, relaxation_time=relaxation_time)
        self._learning_rate = learning_rate
        self._horizon = horizon
        self._energy_epsilon = energy_epsilon
        self._epsilons = {f"deviation-{epsilon:g}": epsilon for epsilon in epsilons}
        self._zetas = {f"energy-{zeta:g}": zeta for zeta in zetas}

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate and 2/eta."""
        return {
            "learning_rate": self._learning_rate,
            "critical_sharpness": 2 / self._learning_rate,
            "time_label": "step",
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per epsilon, and one per zeta."""
        return (*self._epsilons, *self._zetas)

    def compute(self, part: str) -> xr.Dataset:
        """Compute the deviation for one epsilon, or the energy for one zeta."""
        if part in self._epsilons:
            return self._deviation(self._epsilons[part])
        return self._energy(self._zetas[part])

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Fit the deviations' power of epsilon, and set each energy's rate beside the law."""
        deviations = [
            (data.attrs["epsilon"], data.attrs["largest_deviation"])
            for name, data in parts.items()
            if name in self._epsilons
        ]
        conclusions = [
            Conclusion(f"largest deviation at epsilon = {epsilon:g}", deviation)
            for epsilon, deviation in deviations
        ]
        if len(deviations) > 1:
            logarithms = np.log(np.array(deviations))
            slope = float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])
            conclusions.append(Conclusion("power of epsilon in the deviation", slope, 0.5))
        for name, zeta in self._zetas.items():
            if name in parts:
                attrs = parts[name].attrs
                quantity = f"(dE/dt3) / <y1^2> at zeta = {zeta:g}"
                conclusions.append(Conclusion(quantity, attrs["rate"], attrs["predicted_rate"]))
        return conclusions

    def _steps(self, epsilon: float) -> int:
        return max(2, round(self._horizon / epsilon))

    def _deviation(self, epsilon: float) -> xr.Dataset:
        # Well-posed: a start below the edge would let the oscillation decay to rounding errors.
        start = jnp.array([math.sqrt(epsilon), 2 / self._learning_rate])
        potential, steps = potentials.SharpValley(epsilon, 1.0), self._steps(epsilon)
        every = max(1, steps // _STORED)
        # Pieces of one length, that of the shortest run, are compiled once for all of them.
        segment = min(_STORED, *(self._steps(other) for other in self._epsilons.values()))
        run: dict[str, Any] = {
            "steps": steps - steps % every,
            "save_every": every,
            "segment": segment,
        }
        discrete = flows.iterate(self._optimizer, potential, start, **run)
        flow = flows.simulate(self._flow, potential, start, **run)
        deviation = np.asarray(flows.distance(flow, discrete))
        midpoints, centres = np.asarray(discrete.midpoints("three_point")), np.asarray(flow.params)

        def variable(values: np.ndarray, name: str) -> tuple[str, np.ndarray, dict[str, str]]:
            return ("step", values, {"units": "parameter", "long_name": name})

        return xr.Dataset(
            {
                "distance": variable(deviation, "distance of the midpoint from Central Flow"),
                "y": variable(midpoints[:, 1], "y of the midpoint of gradient descent"),
                "centre_y": variable(centres[:, 1], "y of Central Flow"),
            },
            {"step": ("step", np.asarray(flow.steps), {"units": "optimizer steps"})},
            {
                "label": f"epsilon = {epsilon:g}",
                "epsilon": epsilon,
                "largest_deviation": float(deviation.max()),
                "step_of_largest_deviation": int(deviation.argmax()),
            },
        )

    def _energy(self, zeta: float) -> xr.Dataset:
        epsilon = self._energy_epsilon
        unit = math.sqrt(epsilon)
        start = jnp.array([math.sqrt(2 * epsilon), 2 / self._learning_rate + 1.5 * unit])
        potential, steps = potentials.SharpValley(epsilon, zeta), self._steps(epsilon)
        run = flows.iterate(self._optimizer, potential, start, steps, measurements=(), segment=4096)
        path = np.asarray(run.params)
        x1, y1 = path[:, 0] / unit, (path[:, 1] - 2 / self._learning_rate) / unit
        energy = y1**2 / 2 + x1**2 / 4 - np.log(np.abs(x1))
        squares = y1**2
        # By the trapezoidal rule; the fit then needs no orbit to be cut out of it.
        integral = epsilon * np.append(0.0, np.cumsum((squares[1:] + squares[:-1]) / 2))
        rate = float(np.polyfit(integral, energy, 1)[0])
        kept = slice(None, None, max(1, steps // _STORED))
        time = epsilon * np.asarray(run.steps)

        def variable(values: np.ndarray, name: str) -> tuple[str, np.ndarray, dict[str, str]]:
            return ("time", values[kept], {"units": "1", "long_name": name})

        return xr.Dataset(
            {
                "energy": variable(energy, "energy E of the oscillation"),
                "integral": variable(integral, "integral of y1^2 over t3"),
            },
            {"time": ("time", time[kept], {"units": "1", "long_name": "t3 = epsilon * steps"})},
            {
                "label": f"zeta = {zeta:g}",
                "zeta": zeta,
                "epsilon": epsilon,
                "rate": rate,
                "predicted_rate": self._learning_rate**2 * (2 - 9 * zeta**2),
            },
        )
