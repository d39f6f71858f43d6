"""The task of a study: its parts one by one, each stored as soon as it is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import flows
from flows.runs.progress import ProgressBar

from ..report.summary import CONCLUSIONS
from ..store.status import ending
from ..store.store import Store, load
from ..studies import AbstractStudy, Conclusion, StudyExperiment
from ..studies.variables import dataset
from ..system.interrupts import deferred_interrupts
from ..system.programs import make_room_for_programs
from .task import AbstractTask, earlier_store


class StudyTask(AbstractTask):
    """The parts of a study that are not stored yet, and its conclusions.

    Args:
        path: the run directory, prepared.
        config: the config.
        study: the study that it describes.
    """

    unit = "parts"

    def __init__(self, path: Path, config: StudyExperiment, study: AbstractStudy):
        self._path, self._config, self._study = path, config, study
        self._messages: dict[str, str] = {}

    @property
    def attributes(self) -> dict[str, Any]:
        """The study's own, and its kind."""
        kinds = {"kind": "study", "study_kind": self._config.study.kind}
        return {**kinds, **self._study.attributes}

    @property
    def length(self) -> int:
        """The number of parts."""
        return len(self._study.parts)

    def done(self, store: Store) -> int:
        """How many parts are stored, or have failed."""
        return sum(self._is_done(store, part) for part in self._study.parts)

    def place(self, store: Store) -> str:
        """After how many parts."""
        return f"after {self.done(store)} of {self.length} parts"

    def restore(self) -> Store | None:
        """Open the store of the parts that are done, if there is one."""
        return earlier_store(self._path)

    def compute(self, store: Store, bar: ProgressBar) -> None:
        """Compute the parts that are not stored.

        Raises:
            KeyboardInterrupt: between two parts, or in a part, which is then lost.
        """
        for part in self._study.parts:
            if self._is_done(store, part):
                continue
            bar.working_on(part)
            make_room_for_programs()
            try:
                computed = self._study.compute(part)
            except flows.SimulationError as error:
                self._messages[part] = f"{part}: {error}"
            else:
                with deferred_interrupts():
                    store.complete(part, computed)
            bar.reached(self.done(store))

    def keep(self, store: Store) -> None:
        """Do nothing: a part is stored at once, or lost."""

    def conclude(self, store: Store) -> tuple[str, str]:
        """Write the conclusions, and what else follows from all parts together."""
        tree = load(self._path)
        parts = {
            part: tree[part].to_dataset() for part in self._study.parts if part in tree.children
        }
        for name, table in self._study.tables(parts).items():
            store.write(name, table)
        store.write(CONCLUSIONS, _dataset(self._study.conclude(parts)))
        return ending(list(self._messages.values()))

    def _is_done(self, store: Store, part: str) -> bool:
        return part in self._messages or store.has_complete(part)


def _dataset(conclusions: list[Conclusion]) -> xr.Dataset:
    units = "as `quantity` says"
    described = {
        "measured": "value that the study measured",
        "predicted": "what theory says; nan if nothing",
        "standard_error": "standard error of the mean over seeds; nan if it is none",
    }
    names = np.array([one.quantity for one in conclusions], object)
    # None becomes nan.
    columns = {
        name: np.array([getattr(one, name) for one in conclusions], float) for name in described
    }
    return dataset(
        {name: ("quantity", x, units, described[name]) for name, x in columns.items()},
        {"quantity": ("quantity", names, "1", "what was measured")},
    )
