"""Metrics of approximate posteriors over data sets and seeds, whichever method they favour."""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
        banana: `hidden` and `train` for the data set "banana", in place of those for all others.
        smoothing: share of the uniform distribution in the training targets.
        seeds: each draws its own split, weights and samples. Splits of a data set that is not
            generated overlap, so that its standard error, of the mean over seeds, leaves out how
            the results depend on the data set.
        methods: those of `METHODS` that are judged.
        settings: fields of `inference.Settings`.
    """

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        data: tuple[str, ...],
        banana: Mapping[str, int],
        smoothing: float,
        seeds: tuple[int, ...],
        methods: tuple[str, ...],
        **settings: Any,
    ):
        self._settings = inference.Settings(**settings)
        self._train, self._validation, self._smoothing = train, validation, smoothing
        self._banana = banana
        self._runs = {f"{name}-{seed}": (name, seed) for name in data for seed in seeds}
        self._data, self._methods = data, methods

    @property
    def attributes(self) -> dict[str, Any]:
        """Methods, metrics and the smoothing."""
        return {
            "methods": list(self._methods),
            "metrics": list(METRICS),
            "smoothing": self._smoothing,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per data set and seed."""
        return tuple(self._runs)

    def compute(self, part: str) -> xr.Dataset:
        """Train one network, fit all methods and judge them."""
        name, seed = self._runs[part]
        settings, train = self._settings, self._train
        if name == "banana":
            settings, train = (
                settings._replace(hidden=self._banana["hidden"]),
                self._banana["train"],
            )
        parts = split_examples(name, train, self._validation, seed)
        test, outside = parts.test, parts.outside
        trained = inference.train(parts.train, settings, seed, smoothing=self._smoothing)
        score = inference.classification_score(parts.held_out)
        truth = inference.labels(test)
        values, scales, kept, losses = [], [], [], []
        for method in self._methods:
            fit, scale = trained.posteriors.choose(method, self._settings.scales, score)
            inside = inference.probabilities(fit, test.inputs)
            found = classification_metrics(inside, truth)
            found["auroc"] = (
                float("nan")
                if outside is None
                else out_of_distribution_auroc(inside, inference.probabilities(fit, outside.inputs))
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


class Examples(NamedTuple):
    """A split of a data set.

    Attributes:
        train: to train on.
        held_out: to choose scales with.
        test: to judge by.
        outside: examples of another kind, if there are any.
    """

    train: potentials.Dataset
    held_out: potentials.Dataset
    test: potentials.Dataset
    outside: potentials.Dataset | None


def split_examples(name: str, train: int, validation: int, seed: int) -> Examples:
    """Split a data set at random, with inputs standardised by the training part alone.

    The generated points of "banana" are left as they are.

    Args:
        name: as for `load_examples`.
        train: examples of the first part.
        validation: of the second; the third has all others.
        seed: of the split, and of examples that are generated.
    """
    first, rest = load_examples(name, seed).split(train, seed)
    second, third = rest.split(validation, seed)
    if name == "banana":
        return Examples(first, second, third, None)
    # All pixels of images have one mean and one deviation.
    axes = (0, 1) if name == "digits" else (0,)
    others = potentials.load_other_digits(classes=_KNOWN_DIGITS) if name == "digits" else None
    return Examples(
        train=first.standardised(first, axes),
        held_out=second.standardised(first, axes),
        test=third.standardised(first, axes),
        outside=None if others is None else others.standardised(first, axes),
    )


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
