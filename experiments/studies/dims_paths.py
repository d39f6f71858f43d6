"""Paths and energies of one start under several friction laws, on a potential of two parameters."""

import functools
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jnp
from ..tables.base import (
    MOST_TABLES,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    Table,
    building,
    refuse,
)
from ..tables.flows import RESERVED_LABELS
from ..tables.kinds import OneOf
from ..tables.mechanics import FrictionTable
from ..tables.potentials import POTENTIALS, AbstractToyTable
from .fields import Pair, Saves
from .study import AbstractStudy, Conclusion, Dataset, Parts

_LANDSCAPE = "landscape"
_RESERVED = (*RESERVED_LABELS, "conclusions")


class LabelledFriction(Table):
    """`[[study.frictions]]`: a friction law and what to call its path."""

    label: Name
    friction: FrictionTable


class DimsPaths(AbstractStudy):
    """`kind = "dims_paths"`: paths and energies of one start under several friction laws.

    Attributes:
        potential: Of two parameters, without a start of its own.
        gravity: Weight of the loss in the energy.
        start: Where all runs start.
        velocity: Their initial velocity.
        horizon: How long they run, in the flow's own time.
        saves: How often each path is stored besides its start, at equal distances in time.
        frictions: The laws, and a label for each.
    """

    kind: Literal["dims_paths"]
    potential: Annotated[
        AbstractToyTable, OneOf(POTENTIALS, ("ring", "rosenbrock", "scalar_product", "quadratic"))
    ]
    gravity: NonNegativeFloat = 10.0
    start: Pair
    velocity: Pair = (0.0, 0.0)
    horizon: PositiveFloat = 20.0
    saves: Saves = 2000
    frictions: Annotated[
        tuple[LabelledFriction, ...],
        pydantic.Field(strict=False, min_length=1, max_length=MOST_TABLES),
    ]

    figures = ("dims_energy", "dims_valley")

    @pydantic.model_validator(mode="after")
    def _labels_differ(self) -> "DimsPaths":
        labels = [one.label.lower() for one in self.frictions]
        for index, label in enumerate(labels):
            if label in labels[:index] or label in _RESERVED:
                given = self.frictions[index].label
                message = f"given {given!r}; each must be its own, and none {', '.join(_RESERVED)}"
                raise refuse(f"frictions[{index}].label", message)
        return self

    @pydantic.model_validator(mode="after")
    def _there_is_one_start(self) -> "DimsPaths":
        if self.potential.start is not None:
            message = f"given {list(self.potential.start)}; must be left out: all paths begin at"
            raise refuse("potential.start", f"{message} the study's own start")
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        """Gravity, and what the time axis is."""
        return {"gravity": self.gravity, "time_label": "time of the mechanics"}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per friction law, and the landscape."""
        return (*self._laws, _LANDSCAPE)

    def check(self) -> None:
        """Build the potential and the friction laws."""
        with building("potential"):
            self.potential.build()
        for law in self._laws.values():
            law.build()

    def compute(self, part: str) -> Dataset:
        """Run under one law, or evaluate the loss on a grid around the paths."""
        if part == _LANDSCAPE:
            return self._landscape()
        data = self._run(part).to_dataset().rename({"step": "time"})
        return data.assign_attrs(label=part)

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Check the energy balance of each run, and say where it ended."""
        conclusions = []
        for label in self._laws:
            if label not in parts:
                continue
            data = parts[label]
            energy, power = data["total_energy"].values, data["dissipated_power"].values
            time = data["time"].values
            lost = np.sum((power[1:] + power[:-1]) / 2 * np.diff(time))
            # The energy at the start may be 0, or cancel; where it is 0 throughout, nothing moves.
            scale = max(float(np.abs(energy).max()), float(lost))
            balance = float((energy[0] - energy[-1] - lost) / scale) if scale > 0 else 0.0
            conclusions += [
                Conclusion(f"{label}: energy lost, less friction's work, relative", balance, 0.0),
                Conclusion(f"{label}: energy at the end", float(energy[-1])),
                Conclusion(f"{label}: loss at the end", float(data["predicted_loss"].values[-1])),
            ]
        return conclusions

    @property
    def _laws(self) -> dict[str, FrictionTable]:
        return {one.label: one.friction for one in self.frictions}

    @functools.cached_property
    def _paths(self) -> dict[str, np.ndarray]:
        """The paths that were computed in this process."""
        return {}

    def _landscape(self) -> Dataset:
        from ..compare.landscape import landscape

        for label in self._laws:
            # A resumed study has not computed the others in this process.
            if label not in self._paths:
                self._run(label)
        paths = [self._paths[label] for label in self._laws]
        return landscape(self.potential.build().potential, jnp.array(self.start), paths)

    def _run(self, label: str) -> "flows.Trajectory":
        friction, velocity = self._laws[label].build(), jnp.array(self.velocity)
        run = flows.simulate(
            flows.DissipativeFlow(self.gravity, friction, velocity),
            self.potential.build().potential,
            jnp.array(self.start),
            self.horizon,
            save_every=self.horizon / self.saves,
            measurements=(),
            segment=self.saves,
        )
        self._paths[label] = np.asarray(run.params)
        return run
