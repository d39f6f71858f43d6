"""Predicted probabilities of approximate posteriors over the plane of the banana problem."""

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..system.lazy import potentials
from ..tables.base import PositiveFloat, Seed, Size, SmallSize
from . import posteriors
from .study import Conclusion, Dataset, Parts
from .variables import attribute, dataset

if TYPE_CHECKING:
    from ..uncertainty.examples import Examples
    from ..uncertainty.posteriors import Posteriors

_REACH, _POINTS = 4.0, 81


class DimsBanana(posteriors.AbstractPosteriorStudy):
    """`kind = "dims_banana"`: predicted probabilities over the plane of the banana problem.

    The probability of class 1 is drawn on a grid, for each method. As many examples as choose the
    scales are drawn besides, to judge by.

    Attributes:
        noise: Standard deviation of the points' noise.
        smoothing: Share of the uniform distribution in the training targets.
        seed: Of data, weights and draws.
    """

    kind: Literal["dims_banana"]
    hidden: SmallSize = 16
    train: Size = 20
    validation: Size = 100
    noise: PositiveFloat = 0.25
    smoothing: posteriors.Smoothing = 0.05
    seed: Seed = 0

    figures = ("dims_banana",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The smoothing."""
        return {"smoothing": self.smoothing}

    @property
    def parts(self) -> tuple[str, ...]:
        """The data, and one part per method."""
        return ("data", *self.methods)

    def check(self) -> None:
        """Refuse a network that is too small or too large."""
        posteriors.check_network(self, (2, self.hidden, 2), self.train, classes=True)

    def compute(self, part: str) -> Dataset:
        """Give the training data, or one method's probabilities."""
        return self._data() if part == "data" else self._probability(part)

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Metrics of held-out points, and the mean confidence at the border of the plane."""
        conclusions = []
        for name in self.methods:
            if name not in parts:
                continue
            data = parts[name]
            p = data["probability"].values
            border = np.concatenate([p[0], p[-1], p[:, 0], p[:, -1]])
            confidence = float(np.maximum(border, 1 - border).mean())
            conclusions += [
                Conclusion(f"{name}: {metric} of other points", attribute(data, metric))
                for metric in ("nll", "brier", "ece", "accuracy")
            ]
            conclusions += [
                Conclusion(f"{name}: mean confidence at the border", confidence),
                Conclusion(f"{name}: share of samples that count", attribute(data, "kept")),
                Conclusion(f"{name}: largest training loss", attribute(data, "training_loss")),
            ]
        return conclusions

    @functools.cached_property
    def _examples(self) -> "Examples":
        from ..uncertainty.examples import Examples

        data = potentials.banana(self.train + 2 * self.validation, self.noise, self.seed)
        train, rest = data.split(self.train, self.seed)
        return Examples(train, *rest.split(self.validation, self.seed), None)

    @functools.cached_property
    def _posteriors(self) -> "Posteriors":
        data = self._examples.train
        return posteriors.train(self, data, self.seed, smoothing=self.smoothing)

    def _data(self) -> Dataset:
        from ..uncertainty.scores import labels

        data = self._examples.train
        return dataset(
            {
                "points": (("example", "coordinate"), data.inputs, "1", "points, generated"),
                "label": ("example", labels(data), "1", "class"),
            },
            label="training data (generated)",
        )

    def _probability(self, method: str) -> Dataset:
        from ..uncertainty import scores
        from ..uncertainty.metrics import classification_metrics

        score, test = scores.classification_score(self._examples.held_out), self._examples.test
        fit, scale = self._posteriors.choose(method, self.scales, score)
        axis = np.linspace(-_REACH, _REACH, _POINTS)
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        map_ = scores.probabilities(fit, grid)[:, 1].reshape(_POINTS, _POINTS)
        predicted = scores.probabilities(fit, test.inputs)
        return dataset(
            {"probability": (("x0", "x1"), map_, "1", "predicted probability of class 1")},
            {
                "x0": ("x0", axis, "1", "first coordinate"),
                "x1": ("x1", axis, "1", "second coordinate"),
            },
            label=method,
            scale=scale,
            kept=fit.kept,
            training_loss=fit.training_loss,
            **classification_metrics(predicted, scores.labels(test)),
        )
