"""The tables of what can be measured besides: `[[measurements]]` of the Hessian and of examples.

Here, as in `flows`, `every` counts saves.
"""

from typing import TYPE_CHECKING, Literal

from .base import MOST_WORK, Name, PositiveInt, Seed, Size, SmallSize
from .derived import Recipe, table_of
from .measurements import MEASUREMENTS, AbstractMeasurementTable

if TYPE_CHECKING:
    import flows

_MOST = {"points": MOST_WORK, "probes": 1000, "depth": MOST_WORK, "eigenvalues": MOST_WORK}


def _add(kind: str, constructor: str) -> None:
    recipe = Recipe(constructor, most=_MOST)
    MEASUREMENTS.add(
        table_of(AbstractMeasurementTable, kind, recipe, build=lambda self: recipe.construct(self))
    )


_add("spectral_density", "flows.SpectralDensity")
_add("gauss_newton", "flows.GaussNewton")
_add("directional_curvature", "flows.DirectionalCurvature")
_add("critical_learning_rate", "flows.CriticalLearningRate")
_add("group_sharpness", "flows.GroupSharpness")
_add("class_losses", "flows.ClassLosses")
_add("eigenvector_overlap", "flows.EigenvectorOverlap")


@MEASUREMENTS.add
class SubsetCurvatureTable(AbstractMeasurementTable):
    """`kind = "subset_curvature"`: the sharpness of the loss over examples drawn at random."""

    kind: Literal["subset_curvature"]
    examples: Size
    seed: Seed = 0
    name: Name = "subset"
    eigenvalues: SmallSize = 1
    every: PositiveInt = 1

    def build(self) -> "flows.AbstractMeasurement":
        """Build the measurement."""
        import flows

        curvature = flows.Curvature(self.eigenvalues, every=self.every)
        return flows.OnExamples(curvature, self.examples, self.seed, self.name)
