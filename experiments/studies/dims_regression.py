"""Predictive bands of approximate posteriors of a network on one input with a gap."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import potentials

from . import inference
from .study import AbstractStudy, Conclusion
from .variables import attribute, dataset, variable

_LOW, _HIGH, _POINTS = -3.5, 3.5, 281
_GAP = 1.6
_SHOWN = 8


class DimsRegression(AbstractStudy):
    """Mean and deviation of each method's predictions, and some of its samples.

    Args:
        train: training examples.
        validation: held-out examples that each method's scale is chosen with, and how many others,
            drawn in the gap too, it is judged by.
        noise: standard deviation of the targets' noise.
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
        seed: int,
        methods: tuple[str, ...],
        **settings: Any,
    ):
        self._settings = inference.Settings(**settings)
        self._noise, self._seed, self._methods = noise, seed, methods
        self._train = potentials.generated_regression(train, noise, _GAP, seed)
        # Every seed is one that NumPy takes.
        choosing, judging = ((seed + shift) % 2**32 for shift in (1, 2))
        self._held_out = potentials.generated_regression(validation, noise, _GAP, choosing)
        self._test = potentials.generated_regression(validation, noise, 0.0, judging)
        self._trained: inference.Trained | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """The noise."""
        return {"noise": self._noise}

    @property
    def parts(self) -> tuple[str, ...]:
        """The data, and one part per method."""
        return ("data", *self._methods)

    def compute(self, part: str) -> xr.Dataset:
        """Give the training data, or one method's predictions."""
        if part == "data":
            x, y = np.asarray(self._train.inputs)[:, 0], np.asarray(self._train.targets)[:, 0]
            return dataset(
                {
                    "x": variable("example", x, "1", "input, generated"),
                    "y": variable("example", y, "1", "target, generated"),
                },
                label="training data (generated)",
            )
        trained = self._network()
        score = inference.regression_score(self._held_out, self._noise)
        fit, scale = trained.posteriors.choose(part, self._settings.scales, score)
        grid = np.linspace(_LOW, _HIGH, _POINTS)
        outputs = np.asarray(fit.predict(jnp.asarray(grid)[:, None]))[..., 0]
        inside = np.asarray(fit.predict(self._train.inputs))[..., 0]
        residual = inside - np.asarray(self._train.targets)[None, :, 0]
        return dataset(
            {
                "mean": variable("x", outputs.mean(axis=0), "1", "mean prediction"),
                "deviation": variable("x", outputs.std(axis=0), "1", "deviation over samples"),
                "samples": variable(
                    ("sample", "x"), outputs[:_SHOWN], "1", "predictions of some samples"
                ),
            },
            {"x": variable("x", grid, "1", "input")},
            label=part,
            scale=scale,
            kept=fit.kept,
            nll=inference.regression_score(self._test, self._noise)(fit),
            validation_nll=score(fit),
            training_rms=float(np.sqrt(np.mean(residual**2))),
            training_loss=fit.training_loss,
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """How well samples keep to the data, and how far they spread in the gap and outside."""
        conclusions = []
        for name in self._methods:
            if name not in parts:
                continue
            data = parts[name]
            x, deviation = data["x"].values, data["deviation"].values
            gap = np.abs(x - 0.5) < _GAP / 4
            beyond = np.abs(x) > 3.2
            rms = attribute(data, "training_rms")
            conclusions += [
                Conclusion(f"{name}: share of samples that count", attribute(data, "kept")),
                Conclusion(f"{name}: largest training loss", attribute(data, "training_loss")),
                Conclusion(f"{name}: rms residual of samples on training inputs", rms),
                Conclusion(f"{name}: mean deviation in the gap", float(deviation[gap].mean())),
                Conclusion(f"{name}: mean deviation beyond", float(deviation[beyond].mean())),
                Conclusion(
                    f"{name}: nll of validation data, which chose it",
                    attribute(data, "validation_nll"),
                ),
                Conclusion(f"{name}: nll of test data, in the gap too", attribute(data, "nll")),
            ]
        return conclusions

    def _network(self) -> inference.Trained:
        if self._trained is None:
            self._trained = inference.train(
                self._train, self._settings, self._seed, noise=self._noise
            )
        return self._trained
