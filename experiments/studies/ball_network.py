"""A network trained by rolling balls of several radii, beside gradient descent."""

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax
from ..tables.base import PositiveFloat, PositiveInt, Seed, building, refuse
from ..tables.supervised import SupervisedTable
from .fields import Positives, named
from .study import AbstractStudy, Conclusion, Dataset, Parts

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from flows import Potential, RollingBall, Trajectory
    from potentials import AbstractPotential


class BallNetwork(AbstractStudy):
    """`kind = "ball_network"`: a network trained by balls of several radii and gradient descent.

    Loss, sharpness and radius times curvature are measured along the paths. `[study.potential]` is
    the network and its data, as in an experiment.

    Attributes:
        potential: The loss of a network.
        init_seed: Draws the weights at which all start.
        learning_rate: eta.
        radii: Of the balls.
        height_scale: Of the metric in which the ball is round.
        steps: How many of the optimizers.
        save_every: Of them, how often to measure.
        flows: Whether the balls' flows run beside them.
    """

    kind: Literal["ball_network"]
    potential: SupervisedTable
    init_seed: Seed = 0
    learning_rate: PositiveFloat
    radii: Positives
    height_scale: PositiveFloat = 1.0
    steps: Annotated[int, pydantic.Field(ge=1, le=1_000_000)]
    save_every: PositiveInt = 1
    flows: bool = True

    figures = ("ball_network",)

    @pydantic.model_validator(mode="after")
    def _saves_divide_the_steps(self) -> "BallNetwork":
        if self.steps % self.save_every:
            message = f"given {self.save_every}; must divide steps = {self.steps}"
            raise refuse("save_every", message)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate, 2/eta and the number of parameters."""
        return {
            "learning_rate": self.learning_rate,
            "critical_sharpness": 2 / self.learning_rate,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._start)),
            "time_label": "step",
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Gradient descent, a ball per radius, and perhaps its flow."""
        return tuple(self._named)

    def check(self) -> None:
        """Build the network on its data."""
        with building("potential"):
            _ = self._start  # All parts have it.

    def compute(self, part: str) -> Dataset:
        """Run one of them.

        Raises:
            flows.SimulationError: if it diverges or loses its contact.
        """
        radius = self._named[part]
        if part.startswith("flow-"):
            run, names = self._simulated(radius), ["predicted_loss", "radius_times_curvature"]
            label = f"flow, radius = {radius:g}"
        elif radius:
            run, names = self._iterated(radius), ["loss", "sharpness", "radius_times_curvature"]
            label = f"radius = {radius:g}"
        else:
            run, names = self._iterated(radius), ["loss", "sharpness"]
            label = "gradient descent"
        data = run.to_dataset(params=False)[names]
        spent = int(np.asarray(run.stats["gradient_equivalents"]))
        data.attrs = {
            "label": label,
            "radius": radius,
            "kind": part.split("-")[0],
            "gradient_equivalents_per_step": spent / self.steps,
        }
        return data.rename(predicted_loss="loss") if "predicted_loss" in data else data

    def conclude(self, parts: Parts) -> list[Conclusion]:
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

    @functools.cached_property
    def _named(self) -> dict[str, float]:
        centres = named("flow", self.radii) if self.flows else {}
        return {"gradient_descent": 0.0, **named("radius", self.radii), **centres}

    @functools.cached_property
    def _loss(self) -> "AbstractPotential":
        return self.potential.build().potential

    @functools.cached_property
    def _start(self) -> "PyTree[Array]":
        return self._loss.init(jax.random.key(self.init_seed))

    @property
    def _problem(self) -> "tuple[AbstractPotential, PyTree[Array], int]":
        return self._loss, self._start, self.steps

    def _ball(self, radius: float) -> "RollingBall":
        return flows.RollingBall(self.learning_rate, radius, self.height_scale)

    def _simulated(self, radius: float) -> "Trajectory":
        flow = flows.BallCentreFlow(self._ball(radius))
        return flows.simulate(flow, *self._problem, save_every=self.save_every, measurements=())

    def _iterated(self, radius: float) -> "Trajectory":
        measurements = (flows.LossAndGradient(), flows.Curvature(1))
        if radius:
            optimizer = self._ball(radius)

            def product(potential: "Potential", params: "PyTree[Array]") -> "Array":
                return radius * flows.principal_curvature(optimizer, potential, params)

            described = "radius times the largest principal curvature"
            name = "radius_times_curvature"
            measurements += (flows.ScalarMeasurement(name, product, described),)
        else:
            optimizer = flows.GradientDescent(self.learning_rate)
        how = {"save_every": self.save_every, "measurements": measurements}
        return flows.iterate(optimizer, *self._problem, **how)
