"""Predicted probabilities of approximate posteriors over the plane of the banana problem."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import potentials

from ..uncertainty import classification_metrics
from . import inference
from .study import AbstractStudy, Conclusion
from .variables import attribute, dataset, variable

_REACH, _POINTS = 4.0, 81


class DimsBanana(AbstractStudy):
    """The probability of class 1 on a grid, for each method.

    Args:
        train: training examples.
        validation: held-out examples that each method's scale is chosen with, and as many others
            that it is judged by.
        noise: standard deviation of the points' noise.
        smoothing: share of the uniform distribution in the training targets.
        seed: of data, weights and draws.
        methods: those of `uncertainty.METHODS` that are drawn.
        settings: fields of `inference.Settings`.
    """

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        noise: float,
        smoothing: float,
        seed: int,
        methods: tuple[str, ...],
        **settings: Any,
    ):
        self._settings = inference.Settings(**settings)
        self._smoothing, self._seed, self._methods = smoothing, seed, methods
        data = potentials.banana(train + 2 * validation, noise, seed)
        self._train, rest = data.split(train, seed)
        self._held_out, self._test = rest.split(validation, seed)
        self._trained: inference.Trained | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """The smoothing."""
        return {"smoothing": self._smoothing}

    @property
    def parts(self) -> tuple[str, ...]:
        """The data, and one part per method."""
        return ("data", *self._methods)

    def compute(self, part: str) -> xr.Dataset:
        """Give the training data, or one method's probabilities."""
        if part == "data":
            return dataset(
                {
                    "points": variable(
                        ("example", "coordinate"), self._train.inputs, "1", "points, generated"
                    ),
                    "label": variable("example", inference.labels(self._train), "1", "class"),
                },
                label="training data (generated)",
            )
        trained = self._network()
        score = inference.classification_score(self._held_out)
        fit, scale = trained.posteriors.choose(part, self._settings.scales, score)
        axis = np.linspace(-_REACH, _REACH, _POINTS)
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        map_ = inference.probabilities(fit, grid)[:, 1].reshape(_POINTS, _POINTS)
        test = inference.probabilities(fit, self._test.inputs)
        return dataset(
            {"probability": variable(("x0", "x1"), map_, "1", "predicted probability of class 1")},
            {
                "x0": variable("x0", axis, "1", "first coordinate"),
                "x1": variable("x1", axis, "1", "second coordinate"),
            },
            label=part,
            scale=scale,
            kept=fit.kept,
            training_loss=fit.training_loss,
            **classification_metrics(test, inference.labels(self._test)),
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Metrics of held-out points, and the mean confidence at the border of the plane."""
        conclusions = []
        for name in self._methods:
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
            conclusions.append(Conclusion(f"{name}: mean confidence at the border", confidence))
            conclusions += [
                Conclusion(f"{name}: share of samples that count", attribute(data, "kept")),
                Conclusion(f"{name}: largest training loss", attribute(data, "training_loss")),
            ]
        return conclusions

    def _network(self) -> inference.Trained:
        if self._trained is None:
            self._trained = inference.train(
                self._train, self._settings, self._seed, smoothing=self._smoothing
            )
        return self._trained
