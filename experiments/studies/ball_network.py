"""A network trained by rolling balls of several radii, beside gradient descent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import flows

from .study import AbstractStudy, Conclusion


class BallNetwork(AbstractStudy):
    """Loss, sharpness and radius times curvature along the paths.

    Args:
        potential: The loss of a network.
        params: Where all start.
        learning_rate: eta.
        radii: Of the balls.
        height_scale: Of the metric.
        steps: How many of the optimizers.
        save_every: Of them, how often to measure.
        flows_too: Whether the balls' flows run beside them.
    """

    def __init__(
        self,
        *,
        potential: Any,
        params: Any,
        learning_rate: float,
        radii: tuple[float, ...],
        height_scale: float,
        steps: int,
        save_every: int,
        flows_too: bool,
    ):
        self._potential, self._params = potential, params
        self._learning_rate, self._height_scale = learning_rate, height_scale
        self._run = {"steps": steps, "save_every": save_every}
        balls = {f"radius-{radius:g}": radius for radius in radii}
        centres = {f"flow-{radius:g}": radius for radius in radii} if flows_too else {}
        self._radii = {"gradient_descent": 0.0, **balls, **centres}

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta and the number of parameters."""
        return {
            "learning_rate": self._learning_rate,
            "critical_sharpness": 2 / self._learning_rate,
            "parameters": ravel_pytree(self._params)[0].size,
            "time_label": "step",
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Gradient descent, a ball per radius, and perhaps its flow."""
        return tuple(self._radii)

    def compute(self, part: str) -> xr.Dataset:
        """Run one of them.

        Raises:
            flows.SimulationError: if it diverges or loses its contact.
        """
        radius = self._radii[part]
        if part.startswith("flow-"):
            flow = flows.BallCentreFlow(self._ball(radius))
            run = flows.simulate(flow, self._potential, self._params, **self._run, measurements=())
            data = run.to_dataset(params=False)[["predicted_loss", "radius_times_curvature"]]
            data = data.rename(predicted_loss="loss")
            label = f"flow, radius = {radius:g}"
        else:
            run = self._iterated(radius)
            data = run.to_dataset(params=False)[
                ["loss", "sharpness", *(["radius_times_curvature"] if radius else [])]
            ]
            label = f"radius = {radius:g}" if radius else "gradient descent"
        spent = int(np.asarray(run.stats["gradient_equivalents"]))
        described = {"label": label, "radius": radius, "kind": part.split("-")[0]}
        data.attrs = {**described, "gradient_equivalents_per_step": spent / self._run["steps"]}
        return data

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Last loss and sharpness, and what a step costs."""
        conclusions = []
        for data in parts.values():
            label = data.attrs["label"]
            conclusions.append(Conclusion(f"last loss, {label}", float(data["loss"][-1])))
            if "sharpness" in data:
                last = float(data["sharpness"][-1])
                conclusions.append(Conclusion(f"last sharpness, {label}", last))
            spent = data.attrs["gradient_equivalents_per_step"]
            conclusions.append(Conclusion(f"gradient-equivalents per step, {label}", spent))
        return conclusions

    def _ball(self, radius: float) -> flows.RollingBall:
        return flows.RollingBall(self._learning_rate, radius, self._height_scale)

    def _iterated(self, radius: float) -> flows.Trajectory:
        measurements: list[Any] = [flows.LossAndGradient(), flows.Curvature(1)]
        if radius:
            optimizer = self._ball(radius)

            def product(potential: Any, params: Any) -> Array:
                return radius * flows.principal_curvature(optimizer, potential, params)

            described = "radius times the largest principal curvature"
            measurements.append(
                flows.ScalarMeasurement("radius_times_curvature", product, described)
            )
        else:
            optimizer = flows.GradientDescent(self._learning_rate)
        return flows.iterate(
            optimizer,
            self._potential,
            self._params,
            **self._run,
            measurements=tuple(measurements),
        )
