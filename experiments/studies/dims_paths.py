"""Paths and energies of one start under several friction laws, on a potential of two parameters."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

import flows

from ..compare.landscape import landscape
from .study import AbstractStudy, Conclusion


class DimsPaths(AbstractStudy):
    """One run for each friction law, and the loss around their paths.

    Args:
        potential: of two parameters.
        gravity: weight of the loss in the energy.
        start: where all runs start.
        velocity: their initial velocity.
        horizon: how long they run, in the flow's own time.
        saves: how often each is stored.
        frictions: the laws by label.
    """

    def __init__(
        self,
        *,
        potential: Any,
        gravity: float,
        start: tuple[float, ...],
        velocity: tuple[float, ...],
        horizon: float,
        saves: int,
        frictions: Mapping[str, flows.AbstractFriction],
    ):
        self._potential, self._gravity = potential, gravity
        self._start, self._velocity = jnp.array(start), jnp.array(velocity)
        self._horizon, self._saves = horizon, saves
        self._frictions = dict(frictions)
        self._paths: dict[str, np.ndarray] = {}

    @property
    def attributes(self) -> dict[str, Any]:
        """Gravity, and what the time axis is."""
        return {"gravity": self._gravity, "time_label": "time of the mechanics"}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per friction law, and the landscape."""
        return (*self._frictions, "landscape")

    def compute(self, part: str) -> xr.Dataset:
        """Run under one law, or evaluate the loss on a grid around the paths."""
        if part == "landscape":
            paths = [self._path(label) for label in self._frictions]
            return landscape(self._potential, self._start, paths)
        run = self._run(part)
        self._paths[part] = np.asarray(run.params)
        data = run.to_dataset().rename({"step": "time"})
        return data.assign_attrs(label=part)

    def conclude(self, parts: Mapping[str, xr.Dataset]) -> list[Conclusion]:
        """Check the energy balance of each run, and say where it ended."""
        conclusions = []
        for label in self._frictions:
            if label not in parts:
                continue
            data = parts[label]
            energy, power = data["total_energy"].values, data["dissipated_power"].values
            time = data["time"].values
            lost = np.sum((power[1:] + power[:-1]) / 2 * np.diff(time))
            # The energy at the start may be 0, or cancel; where there is none at all nothing moves.
            scale = max(float(np.abs(energy).max()), float(lost))
            balance = float((energy[0] - energy[-1] - lost) / scale) if scale > 0 else 0.0
            conclusions += [
                Conclusion(f"{label}: energy lost, less friction's work, relative", balance, 0.0),
                Conclusion(f"{label}: energy at the end", float(energy[-1])),
                Conclusion(f"{label}: loss at the end", float(data["predicted_loss"].values[-1])),
            ]
        return conclusions

    def _run(self, label: str) -> flows.Trajectory:
        flow = flows.DissipativeFlow(self._gravity, self._frictions[label], self._velocity)
        every = self._horizon / self._saves
        return flows.simulate(
            flow,
            self._potential,
            self._start,
            self._horizon,
            save_every=every,
            measurements=(),
            segment=self._saves,
        )

    def _path(self, label: str) -> np.ndarray:
        # A resumed study has not computed the others in this process.
        if label not in self._paths:
            self._paths[label] = np.asarray(self._run(label).params)
        return self._paths[label]
