"""The critical sharpness of optax's transformations, measured beside what their formulas say.

A map counts as unstable where its spectral radius is 1e-9 above 1: that is most of the difference.
"""

import math
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pydantic

from ..system.lazy import flows
from ..tables.base import PositiveFloat
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .transformations import FAMILIES, TRANSFORMATIONS, Transformation
from .variables import dataset

_Family = Literal["gradient", "momentum", "adaptive", "adaptive_momentum", "long_memory", "none"]


class ThresholdsOptax(AbstractStudy):
    """`kind = "thresholds_optax"`: thresholds of transformations from their own maps.

    Attributes:
        learning_rate: eta.
        families: Which are measured.
    """

    kind: Literal["thresholds_optax"]
    learning_rate: PositiveFloat = 0.1
    families: Annotated[tuple[_Family, ...], pydantic.Field(strict=False, min_length=1), Once] = (
        get_args(_Family)
    )

    figures = ("thresholds_optax",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate."""
        return {"learning_rate": self.learning_rate}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per family."""
        return self.families

    def check(self) -> None:
        """Build the transformations."""
        for one in TRANSFORMATIONS.values():
            if one.family in self.families:
                one.make(self.learning_rate)

    def compute(self, part: str) -> Dataset:
        """Find the thresholds of a family; nan where a map has none, with the reason."""
        rows = {name: one for name, one in TRANSFORMATIONS.items() if one.family == part}
        measured = [self._measured(one) for one in rows.values()]
        return dataset(
            {
                "measured": (
                    "transformation",
                    measured,
                    "1",
                    "eta times the critical preconditioned sharpness, from the map",
                ),
                "predicted": (
                    "transformation",
                    [one.threshold for one in rows.values()],
                    "1",
                    "eta times the critical preconditioned sharpness, by the formula",
                ),
            },
            {
                "transformation": (
                    "transformation",
                    np.asarray(list(rows)),
                    "1",
                    "transformation of optax",
                ),
                "reason": (
                    "transformation",
                    np.asarray([one.reason for one in rows.values()]),
                    "1",
                    "why there is no threshold",
                ),
            },
            label=FAMILIES[part],
            position=list(FAMILIES).index(part),
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Compare each with its formula, and count those that have no threshold."""
        conclusions = []
        for data in parts.values():
            columns = (data[name].values for name in ("transformation", "measured", "predicted"))
            for name, found, predicted in zip(*columns, strict=True):
                if math.isfinite(predicted):
                    quantity = f"{name}: eta * critical sharpness"
                    conclusions.append(Conclusion(quantity, float(found), float(predicted)))
        if (data := parts.get("none")) is not None:
            without = int(np.sum(~np.isfinite(data["measured"].values)))
            quantity = "transformations found to have no threshold"
            conclusions.append(Conclusion(quantity, without, data.sizes["transformation"]))
        return conclusions

    def _measured(self, one: Transformation) -> float:
        of = one.make(self.learning_rate)
        try:
            return self.learning_rate * float(flows.critical_sharpness(of))
        except ValueError:
            # That there is none is what a map that jumps is refused with.
            if one.reason:
                return math.nan
            raise
