"""A network on digits whose weights stay on manifolds: RGD, Riemannian SAM, FG-SGD, beside SGD."""

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax
from ..tables.base import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    Table,
    building,
    refuse,
)
from ..tables.supervised import SupervisedTable
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from flows import Product
    from flows.manifolds.method import AbstractRiemannianMethod

Method = Literal["sgd", "rgd", "rsam", "fg_sgd"]
_LABELS = {"sgd": "SGD, flat", "rgd": "RGD", "rsam": "RSAM", "fg_sgd": "FG-SGD"}
# Of the run, its end: long after the sharpness has risen.
_SHARE = 0.5


class Run(Table):
    """One of the runs: a method, where the weights live, and its learning rate."""

    method: Method
    manifold: Literal["flat", "oblique", "stiefel"] = "flat"
    learning_rate: PositiveFloat

    @property
    def name(self) -> str:
        """The name of its part."""
        return f"{self.method}-{self.manifold}-{self.learning_rate:g}"


class ManifoldDigits(AbstractStudy):
    """`kind = "manifold_digits"`: a network with weights on manifolds, by several methods.

    The rows of each weight, the output channels, are unit vectors ("oblique"), or orthonormal as
    far as a matrix can be, its rows or its columns ("stiefel"); biases are free. All start at the
    same weights, put on their manifold. The data are seen as a whole in each step.

    Attributes:
        potential: The network and its data, as in an experiment.
        init_seed: Draws the weights.
        runs: Method, manifold and learning rate of each.
        radius: rho of Riemannian SAM.
        steps: How long the runs are.
        save_every: How often loss, accuracy and sharpness are measured, in steps.
    """

    kind: Literal["manifold_digits"]
    potential: SupervisedTable
    init_seed: Seed = 0
    runs: Annotated[tuple[Run, ...], pydantic.Field(strict=False, min_length=1), Once]
    radius: NonNegativeFloat = 0.05
    steps: Annotated[int, pydantic.Field(ge=1, le=1_000_000)]
    save_every: PositiveInt = 1

    figures = ("manifold_digits",)

    @pydantic.model_validator(mode="after")
    def _saves_divide_the_steps(self) -> "ManifoldDigits":
        if self.steps % self.save_every:
            message = f"given {self.save_every}; must divide steps = {self.steps}"
            raise refuse("save_every", message)
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """The radius of Riemannian SAM."""
        return {"radius": self.radius, "time_label": "step"}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per run."""
        return tuple(run.name for run in self.runs)

    def check(self) -> None:
        """Build the network on its data."""
        with building("potential"):
            _ = self._start

    def compute(self, part: str) -> Dataset:
        """Run one of them, and measure it."""
        run = self.runs[self.parts.index(part)]
        method = self._method(run)
        network, product = self._loss, method.manifold
        accuracy = flows.ScalarMeasurement("accuracy", lambda loss, w: loss.accuracy(w))

        def threshold(loss: Any, params: "PyTree[Array]") -> "Array":
            if isinstance(method, flows.RiemannianSAM):
                return method.critical_sharpness_at(params, loss)
            return method.critical_sharpness.astype(jax.tree.leaves(params)[0].dtype)

        path = flows.iterate(
            method,
            network,
            product.nearest(self._start),
            self.steps,
            save_every=self.save_every,
            measurements=(
                flows.LossAndGradient(),
                accuracy,
                flows.RiemannianCurvature(product),
                flows.ConstraintDrift(product),
                flows.ScalarMeasurement("threshold", threshold),
            ),
        )
        texts = {
            "loss": ("loss", "loss of the network"),
            "accuracy": ("1", "share of the examples that are classified rightly"),
            "riemannian_sharpness": ("loss / parameter^2", "Riemannian sharpness"),
            "threshold": ("loss / parameter^2", "the sharpness at which the method is unstable"),
            "constraint_drift": ("1", "by how much the weights miss their manifold's equations"),
        }
        return dataset(
            {name: ("step", path.observables[name], *text) for name, text in texts.items()},
            {"step": ("step", np.asarray(path.steps), "optimizer steps", "time of the save")},
            label=_LABELS[run.method] + ("" if run.manifold == "flat" else f", {run.manifold}"),
            method=run.method,
            manifold=run.manifold,
            learning_rate=run.learning_rate,
            position=self.parts.index(part),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give last loss and accuracy, where the sharpness hovers, and the drift."""
        found = []
        for data in parts.values():
            label = data.attrs["label"]
            late = slice(-max(round(_SHARE * data.sizes["step"]), 1), None)
            hovers, at = (
                float(data[name][late].mean()) for name in ("riemannian_sharpness", "threshold")
            )
            found += [
                Conclusion(f"{label}: loss at the end", float(data["loss"][-1])),
                Conclusion(f"{label}: accuracy at the end", float(data["accuracy"][-1])),
                Conclusion(f"{label}: mean sharpness, second half, threshold", hovers, at),
                Conclusion(
                    f"{label}: constraint drift, at most", float(data["constraint_drift"].max())
                ),
            ]
        return found

    @functools.cached_property
    def _loss(self) -> Any:
        return self.potential.build().potential

    @functools.cached_property
    def _start(self) -> "PyTree[Array]":
        return self._loss.init(jax.random.key(self.init_seed))

    def _product(self, name: str) -> "Product":
        """Return where the weights live; as many lines of a matrix as can be are orthonormal."""

        def where(path: str, leaf: "Array") -> Any:
            del path
            if name == "flat" or leaf.ndim != 2:
                return None
            if name == "oblique":
                return flows.Oblique("rows")
            return flows.Stiefel("rows" if leaf.shape[0] <= leaf.shape[1] else "columns")

        return flows.Product(where)

    def _method(self, run: Run) -> "AbstractRiemannianMethod":
        product, rate = self._product(run.manifold), run.learning_rate
        if run.method == "rsam":
            return flows.RiemannianSAM(rate, radius=self.radius, manifold=product)
        if run.method == "fg_sgd":
            return flows.FineGrainedSGD(rate, product)
        return flows.RiemannianGradientDescent(rate, product)
