"""Metrics of approximate posteriors over data sets and seeds, whichever method they favour."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

import potentials

from ..uncertainty import classification_metrics, out_of_distribution_auroc
from . import inference
from .study import AbstractStudy, Conclusion
from .variables import dataset, variable

METRICS = ("nll", "brier", "ece", "accuracy", "auroc")
# Digits that are trained on; images of the others are out of distribution.
_KNOWN_DIGITS = 5
_BANANAS = 400
# Methods of which a sample, or a member, may not count.
_COUNTED = ("dims", "riemannian_laplace", "deep_ensemble")


class DimsUncertainty(AbstractStudy):
    """All methods and metrics, for each data set and seed.

    Args:
        train: training examples.
        validation: held-out examples that each method's scale is chosen with; all others judge.
        data: names of the data sets.
        smoothing: share of the uniform distribution in the training targets.
        seeds: each draws its own split, weights and samples.
        methods: those of `METHODS` that are judged.
        settings: fields of `inference.Settings`.
    """

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        data: tuple[str, ...],
        smoothing: float,
        seeds: tuple[int, ...],
        methods: tuple[str, ...],
        **settings: Any,
    ):
        self._settings = inference.Settings(**settings)
        self._train, self._validation, self._smoothing = train, validation, smoothing
        self._runs = {f"{name}-{seed}": (name, seed) for name in data for seed in seeds}
        self._data, self._methods = data, methods

    @property
    def attributes(self) -> dict[str, Any]:
        """Methods and metrics."""
        return {"methods": list(self._methods), "metrics": list(METRICS)}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per data set and seed."""
        return tuple(self._runs)

    def compute(self, part: str) -> xr.Dataset:
        """Train one network, fit all methods and judge them."""
        name, seed = self._runs[part]
        loaded = load_examples(name, seed)
        train, rest = loaded.split(self._train, seed)
        held_out, test = rest.split(self._validation, seed)
        trained = inference.train(train, self._settings, seed, smoothing=self._smoothing)
        score = inference.classification_score(held_out)
        truth = inference.labels(test)
        outside = (
            potentials.load_other_digits(classes=_KNOWN_DIGITS).inputs if name == "digits" else None
        )
        values, scales, kept, losses = [], [], [], []
        for method in self._methods:
            fit, scale = trained.posteriors.choose(method, self._settings.scales, score)
            inside = inference.probabilities(fit, test.inputs)
            found = classification_metrics(inside, truth)
            found["auroc"] = (
                float("nan")
                if outside is None
                else out_of_distribution_auroc(inside, inference.probabilities(fit, outside))
            )
            values.append([found[metric] for metric in METRICS])
            scales.append(scale)
            kept.append(fit.kept)
            losses.append(fit.training_loss)
        return dataset(
            {
                "value": variable(("method", "metric"), values, "1", "metric on test examples"),
                "scale": variable("method", scales, "1", "scale that was chosen; nan for none"),
                "kept": variable("method", kept, "1", "share of samples that count"),
                "training_loss": variable(
                    "method", losses, "loss", "largest training loss of the networks it is made of"
                ),
            },
            {
                "method": variable("method", np.array(self._methods, object), "1", "method"),
                "metric": variable("metric", np.array(METRICS, object), "1", "metric"),
            },
            label=part,
            data=name,
            seed=seed,
        )

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Mean over seeds of every metric, with its standard error."""
        conclusions = []
        for name in self._data:
            runs = [data for data in parts.values() if data.attrs["data"] == name]
            if not runs:
                continue
            values = np.stack([run["value"].values for run in runs])
            for j, metric in enumerate(METRICS):
                # Without other images there is nothing to tell apart.
                if metric == "auroc" and name != "digits":
                    continue
                for i, method in enumerate(self._methods):
                    conclusions.append(_mean(f"{name}, {metric}: {method}", values[:, i, j]))
            kept = np.stack([run["kept"].values for run in runs])
            for method in _COUNTED:
                if method in self._methods:
                    shares = kept[:, self._methods.index(method)]
                    quantity = f"{name}, share of samples that count: {method}"
                    conclusions.append(_mean(quantity, shares))
            worst = float(np.stack([run["training_loss"].values for run in runs]).max())
            conclusions.append(Conclusion(f"{name}, largest training loss", worst))
        return conclusions


def _mean(quantity: str, values: np.ndarray) -> Conclusion:
    """The mean over seeds; its standard error is not known of one seed alone."""
    count = len(values)
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return Conclusion(quantity, float(values.mean()), standard_error=error)


def load_examples(name: str, seed: int = 0) -> potentials.Dataset:
    """All examples of a data set.

    Args:
        name: "banana", "breast_cancer", "wine" or "digits".
        seed: of those that are generated.
    """
    if name == "banana":
        return potentials.banana(_BANANAS, seed=seed)
    if name == "breast_cancer":
        return potentials.load_breast_cancer()
    if name == "wine":
        return potentials.load_wine()
    return potentials.load_digits(classes=_KNOWN_DIGITS)
