"""Run a study: its parts one by one, each stored as soon as it is there."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import flows

from .environment import EnvironmentFile
from .interrupts import deferred_interrupts
from .progress import AbstractProgress
from .schema import StudyExperiment
from .session import DIVERGED, FINISHED, INTERRUPTED, RUNNING, AbstractSession, complete
from .store import RESULTS, Store, load, remove
from .studies import AbstractStudy, Conclusion
from .summary import CONCLUSIONS


class StudySession(AbstractSession):
    """One process's share of a study.

    Args:
        path: the run directory, prepared.
        config: the config.
        study: what it stands for.
        there: whether there is an earlier share to go on with.
    """

    unit = "parts"

    def __init__(self, path: Path, config: StudyExperiment, study: AbstractStudy, there: bool):
        self.path, self.study = path, study
        self.length = len(study.parts)
        self._messages: dict[str, str] = {}
        self._environment = EnvironmentFile(path, config)
        results = path / RESULTS
        if there and results.exists():
            self.store = Store.open(results)
        else:
            if results.exists() or results.is_symlink():
                remove(results)
            self.store = Store.create(results, _root_attributes(config, study))
        if not complete(self):
            self._environment.start()
            self.store.update("", {"status": RUNNING, "message": ""})

    @property
    def done(self) -> int:
        """How many parts are stored, or have failed."""
        return sum(self._is_done(part) for part in self.study.parts)

    def loop(self, bar: AbstractProgress) -> None:
        """Compute the parts that are not there.

        Raises:
            KeyboardInterrupt: between two parts, or in a part, which is then lost.
        """
        try:
            for part in self.study.parts:
                if self._is_done(part):
                    continue
                bar.working_on(part)
                try:
                    dataset = self.study.compute(part)
                except flows.SimulationError as error:
                    self._messages[part] = f"{part}: {error}"
                else:
                    with deferred_interrupts():
                        self.store.write(part, dataset)
                        # Only now does it count: a crash may have come in the middle.
                        self.store.update(part, {"complete": True})
                bar.reached(self.done)
        except KeyboardInterrupt:
            with deferred_interrupts():
                message = f"after {self.done} of {self.length} parts"
                self.store.update("", {"status": INTERRUPTED, "message": message})
                self._environment.write()
            raise

    def finish(self) -> None:
        """Write the conclusions and the status."""
        tree = load(self.path)
        parts = [part for part in self.study.parts if part in tree.children]
        conclusions = self.study.conclude({part: tree[part].to_dataset() for part in parts})
        self.store.write(CONCLUSIONS, _dataset(conclusions))
        status = DIVERGED if self._messages else FINISHED
        self.store.finish({"status": status, "message": "; ".join(self._messages.values())})
        self._environment.write()

    def _is_done(self, part: str) -> bool:
        return part in self._messages or bool(self.store.attributes_of(part).get("complete"))


def _root_attributes(config: StudyExperiment, study: AbstractStudy) -> dict[str, Any]:
    return {
        "name": config.name,
        "description": config.description,
        "title": config.description or config.name,
        "kind": "study",
        "study_kind": config.study.kind,
        "status": RUNNING,
        "message": "",
        **study.attributes,
    }


def _dataset(conclusions: list[Conclusion]) -> xr.Dataset:
    predicted = [np.nan if one.predicted is None else one.predicted for one in conclusions]
    what = {"units": "1", "long_name": "what was measured"}
    return xr.Dataset(
        {
            "measured": (
                "quantity",
                np.array([one.measured for one in conclusions], dtype=float),
                {"units": "as `quantity` says", "long_name": "value that the study measured"},
            ),
            "predicted": (
                "quantity",
                np.array(predicted, dtype=float),
                {"units": "as `quantity` says", "long_name": "what theory says; nan if nothing"},
            ),
        },
        {"quantity": ("quantity", np.array([one.quantity for one in conclusions], object), what)},
    )
