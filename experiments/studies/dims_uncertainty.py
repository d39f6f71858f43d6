"""Metrics of approximate posteriors over data sets and seeds, whichever method they favour."""

import functools
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..tables.base import BuildError, Seed, Size, SmallSize, Table
from . import posteriors
from .fields import Once
from .study import Conclusion, Dataset, Parts
from .variables import dataset

METRICS = ("nll", "brier", "ece", "accuracy", "auroc")
# Methods of which a sample, or a member, may not count.
_COUNTED = ("dims", "riemannian_laplace", "deep_ensemble")

DataName = Literal["banana", "breast_cancer", "wine", "digits"]


class BananaSizes(Table):
    """`[study.banana]`: what the banana problem has in place of the study's own sizes.

    Its classes overlap in a plane. There a network needs more units for its examples than on the
    other data sets: with hardly more weights than targets it meets them with ever larger weights,
    and a loss without a minimum has no set of minima.
    """

    hidden: SmallSize = 16
    train: Size = 20


class DimsUncertainty(posteriors.AbstractPosteriorStudy):
    """`kind = "dims_uncertainty"`: metrics of all methods over data sets and seeds.

    `hidden` and `train` are those of all data sets but the banana problem. All examples that
    neither train a network nor choose a scale judge.

    Attributes:
        banana: `hidden` and `train` for the banana problem.
        data: Names of the data sets.
        smoothing: Share of the uniform distribution in the training targets.
        seeds: Each draws its own split, weights and samples. Splits of a data set that is not
            generated overlap, so that its standard error, of the mean over seeds, leaves out how
            the results depend on the data set.
    """

    kind: Literal["dims_uncertainty"]
    hidden: SmallSize = 10
    train: Size = 60
    validation: Size = 50
    banana: BananaSizes = BananaSizes()
    data: Annotated[tuple[DataName, ...], pydantic.Field(strict=False, min_length=1), Once] = (
        "banana",
        "breast_cancer",
        "wine",
        "digits",
    )
    smoothing: posteriors.Smoothing = 0.05
    seeds: Annotated[tuple[Seed, ...], pydantic.Field(strict=False, min_length=2), Once] = (0, 1, 2)

    figures = ("dims_uncertainty",)

    @property
    def attributes(self) -> dict[str, Any]:
        """Methods, metrics and the smoothing."""
        return {
            "methods": list(self.methods),
            "metrics": list(METRICS),
            "smoothing": self.smoothing,
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per data set and seed."""
        return tuple(self._runs)

    def check(self) -> None:
        """Refuse more training examples than there are, and networks too small or too large."""
        from ..uncertainty.examples import load_examples

        for name in self.data:
            data = load_examples(name)
            sizes, where = self._sizes(name), "banana." if name == "banana" else ""
            most = data.inputs.shape[0] - 1
            if sizes.train + self.validation > most:
                given = f"given {sizes.train}; train + validation = {sizes.train + self.validation}"
                raise BuildError(f"{where}train", f"{given} must be at most {most} for {name}")
            widths = (data.inputs.shape[1], sizes.hidden, data.targets.shape[1])
            posteriors.check_network(self, widths, sizes.train, classes=True, where=where)

    def compute(self, part: str) -> Dataset:
        """Train one network, fit all methods and judge them."""
        from ..uncertainty import scores
        from ..uncertainty.examples import split_examples
        from ..uncertainty.metrics import classification_metrics, out_of_distribution_auroc

        name, seed = self._runs[part]
        sizes = self._sizes(name)
        examples = split_examples(name, sizes.train, self.validation, seed)
        test, outside = examples.test, examples.outside
        trained = posteriors.train(sizes, examples.train, seed, smoothing=self.smoothing)
        score = scores.classification_score(examples.held_out)
        values, chosen = [], []
        for method in self.methods:
            fit, scale = trained.choose(method, self.scales, score)
            inside = scores.probabilities(fit, test.inputs)
            found = classification_metrics(inside, scores.labels(test))
            found["auroc"] = (
                float("nan")
                if outside is None
                else out_of_distribution_auroc(inside, scores.probabilities(fit, outside.inputs))
            )
            values.append([found[metric] for metric in METRICS])
            chosen.append((scale, fit.kept, fit.training_loss))
        scales, kept, losses = zip(*chosen, strict=True)
        return dataset(
            {
                "value": (("method", "metric"), values, "1", "metric on test examples"),
                "scale": ("method", scales, "1", "scale that was chosen; nan for none"),
                "kept": ("method", kept, "1", "share of samples that count"),
                "training_loss": (
                    "method",
                    losses,
                    "loss",
                    "largest training loss of the networks it is made of",
                ),
            },
            {
                "method": ("method", np.array(self.methods, object), "1", "method"),
                "metric": ("metric", np.array(METRICS, object), "1", "metric"),
            },
            label=part,
            data=name,
            seed=seed,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Mean over seeds of every metric, with its standard error."""
        conclusions = []
        for name in self.data:
            runs = [data for data in parts.values() if data.attrs["data"] == name]
            if not runs:
                continue
            values = np.stack([run["value"].values for run in runs])
            for j, metric in enumerate(METRICS):
                # Without other images there is nothing to distinguish.
                if metric == "auroc" and name != "digits":
                    continue
                for i, method in enumerate(self.methods):
                    conclusions.append(_mean(f"{name}, {metric}: {method}", values[:, i, j]))
            kept = np.stack([run["kept"].values for run in runs])
            for method in _COUNTED:
                if method in self.methods:
                    shares = kept[:, self.methods.index(method)]
                    quantity = f"{name}, share of samples that count: {method}"
                    conclusions.append(_mean(quantity, shares))
            worst = float(np.stack([run["training_loss"].values for run in runs]).max())
            conclusions.append(Conclusion(f"{name}, largest training loss", worst))
        return conclusions

    @functools.cached_property
    def _runs(self) -> dict[str, tuple[str, int]]:
        return {f"{name}-{seed}": (name, seed) for name in self.data for seed in self.seeds}

    def _sizes(self, name: str) -> "DimsUncertainty":
        """Return this study, with the sizes of a data set."""
        if name != "banana":
            return self
        return self.model_copy(update=self.banana.model_dump())


def _mean(quantity: str, values: np.ndarray) -> Conclusion:
    """Return the mean over seeds, with its standard error where there are several."""
    count = len(values)
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return Conclusion(quantity, float(values.mean()), standard_error=error)
