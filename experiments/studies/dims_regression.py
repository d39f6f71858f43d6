"""Predictive bands of approximate posteriors of a network on one input with a gap."""

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..system.lazy import jnp, potentials
from ..tables.base import PositiveFloat, Seed, SmallSize
from ..tables.data import TwoOrMore
from . import posteriors
from .study import Conclusion, Dataset, Parts
from .variables import attribute, dataset

if TYPE_CHECKING:
    from ..uncertainty.examples import Examples
    from ..uncertainty.posteriors import Posteriors

_LOW, _HIGH, _POINTS = -3.5, 3.5, 281
_GAP = 1.6
_SHOWN = 8


class DimsRegression(posteriors.AbstractPosteriorStudy):
    """`kind = "dims_regression"`: predictive bands on generated data with a gap.

    Mean and deviation of each method's predictions are drawn, and some of its samples. As many
    examples as choose the scales are drawn besides, in the gap too, to judge by.

    Attributes:
        noise: Standard deviation of the targets' noise.
        seed: Of data, weights and draws.
    """

    kind: Literal["dims_regression"]
    hidden: SmallSize = 24
    train: TwoOrMore = 16
    validation: TwoOrMore = 50
    noise: PositiveFloat = 0.05
    seed: Seed = 0
    methods: posteriors.Methods = ("dims", "laplace", "linearised_laplace", "riemannian_laplace")

    figures = ("dims_regression",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The noise."""
        return {"noise": self.noise}

    @property
    def parts(self) -> tuple[str, ...]:
        """The data, and one part per method."""
        return ("data", *self.methods)

    def check(self) -> None:
        """Refuse a network that is too small or too large."""
        posteriors.check_network(self, (1, self.hidden, 1), self.train, classes=False)

    def compute(self, part: str) -> Dataset:
        """Give the training data, or one method's predictions."""
        return self._data() if part == "data" else self._bands(part)

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """How well samples keep to the data, and how far they spread in the gap and outside."""
        conclusions = []
        for name in self.methods:
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

    @functools.cached_property
    def _examples(self) -> "Examples":
        from ..uncertainty.examples import Examples

        # Every seed is one that NumPy takes.
        choosing, judging = ((self.seed + shift) % 2**32 for shift in (1, 2))
        return Examples(
            train=potentials.generated_regression(self.train, self.noise, _GAP, self.seed),
            held_out=potentials.generated_regression(self.validation, self.noise, _GAP, choosing),
            test=potentials.generated_regression(self.validation, self.noise, 0.0, judging),
            outside=None,
        )

    @functools.cached_property
    def _posteriors(self) -> "Posteriors":
        return posteriors.train(self, self._examples.train, self.seed, noise=self.noise)

    def _data(self) -> Dataset:
        data = self._examples.train
        return dataset(
            {
                "x": ("example", data.inputs[:, 0], "1", "input, generated"),
                "y": ("example", data.targets[:, 0], "1", "target, generated"),
            },
            label="training data (generated)",
        )

    def _bands(self, method: str) -> Dataset:
        from ..uncertainty import scores

        train, held_out, test, _ = self._examples
        score = scores.regression_score(held_out, self.noise)
        fit, scale = self._posteriors.choose(method, self.scales, score)
        grid = np.linspace(_LOW, _HIGH, _POINTS)
        outputs = np.asarray(fit.predict(jnp.asarray(grid)[:, None]))[..., 0]
        inside = np.asarray(fit.predict(train.inputs))[..., 0]
        residual = inside - np.asarray(train.targets)[None, :, 0]
        return dataset(
            {
                "mean": ("x", outputs.mean(axis=0), "1", "mean prediction"),
                "deviation": ("x", outputs.std(axis=0), "1", "deviation over samples"),
                "samples": (("sample", "x"), outputs[:_SHOWN], "1", "predictions of some samples"),
            },
            {"x": ("x", grid, "1", "input")},
            label=method,
            scale=scale,
            kept=fit.kept,
            nll=scores.regression_score(test, self.noise)(fit),
            validation_nll=score(fit),
            training_rms=float(np.sqrt(np.mean(residual**2))),
            training_loss=fit.training_loss,
        )
