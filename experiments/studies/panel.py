"""Every flow that models an optimizer on the same cases, from the same starts."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..panel.cases import CASES
from ..panel.contestants import CONTESTANTS
from ..tables.kinds import AnyOf
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import Described, dataset

TABLE = "table"
"""The group of the results with all numbers together: case x flow x measure."""


def _case_names() -> tuple[str, ...]:
    return tuple(CASES)


def _flow_names() -> tuple[str, ...]:
    return tuple(CONTESTANTS)


class Panel(AbstractStudy):
    """`kind = "panel"`: a matrix of errors, each flow on each case.

    The cases, with their losses, learning rates, starts and lengths, are those of
    `experiments.panel.cases`; the measures are described in `experiments.panel.measures`. A flow
    that fails on a case, or does not apply to its optimizer, is an entry with a message.

    Attributes:
        cases: Names of the cases, one part each.
        flows: Names of the flows.
    """

    kind: Literal["panel"]
    cases: Annotated[
        tuple[Annotated[str, AnyOf(_case_names)], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = _case_names()
    flows: Annotated[
        tuple[Annotated[str, AnyOf(_flow_names)], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = _flow_names()

    figures = ("panel",)

    @property
    def attributes(self) -> dict[str, Any]:
        """None: the cases share nothing but the flows."""
        return {}

    @property
    def parts(self) -> tuple[str, ...]:
        """One per case."""
        return self.cases

    def check(self) -> None:
        """Do nothing: all that the config chooses from is built in."""

    def compute(self, part: str) -> Dataset:
        """Run one case, and take the measures of each flow."""
        from ..panel.comparison import compare
        from ..panel.measures import MEASURES

        case = CASES[part]
        row = compare(case, self.flows)
        entries = row.entries
        variables: dict[str, Described] = {
            name: ("flow", [entry.values[name] for entry in entries], unit, text)
            for name, (unit, text) in MEASURES.items()
        }
        words: dict[str, Described] = {
            "outcome": (
                "flow",
                _words(e.outcome for e in entries),
                "1",
                "how the flow's run ended",
            ),
            "message": ("flow", _words(e.message for e in entries), "1", "why there is no number"),
        }
        return dataset(
            {**variables, **words},
            {"flow": ("flow", _words(self.flows), "1", "name of the flow")},
            label=case.description,
            parameters=row.size,
            first_step=case.burn,
            last_step=case.steps,
            discrete_onset=row.onset,
            discrete_half_difference=row.largest,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Set our best flow beside the best published one, case by case, and count the failures."""
        conclusions = []
        failures = 0
        for name, data in parts.items():
            errors = dict(zip(data["flow"].values, data["tracking_error"].values, strict=True))
            failures += int((data["outcome"] == "failed").sum())
            published = [e for flow, e in errors.items() if CONTESTANTS[flow].published]
            best = float(np.nanmin(published)) if np.isfinite(published).any() else np.nan
            for flow, error in errors.items():
                if not CONTESTANTS[flow].published and np.isfinite(error / best):
                    quantity = f"{name}: error of {flow} over the best published flow's"
                    conclusions.append(Conclusion(quantity, float(error / best)))
        return [*conclusions, Conclusion("runs of a flow that failed", failures)]

    def tables(self, parts: Parts) -> Mapping[str, Dataset]:
        """Put the numbers of all cases together."""
        from ..panel.measures import MEASURES

        measures = tuple(MEASURES)
        shape = (len(parts), len(self.flows), len(measures))
        values = [[data[name].values for name in measures] for data in parts.values()]
        outcomes, messages = (
            np.array([data[name].values for data in parts.values()], object).reshape(shape[:2])
            for name in ("outcome", "message")
        )
        both = ("case", "flow")
        table = dataset(
            {
                "value": (
                    (*both, "measure"),
                    np.moveaxis(np.reshape(values, (shape[0], shape[2], shape[1])), 1, 2),
                    "as `unit` says",
                    "value of each measure; nan where there is none",
                ),
                "outcome": (both, outcomes, "1", "how the flow's run ended"),
                "message": (both, messages, "1", "why there is no number"),
            },
            {
                "case": ("case", _words(parts), "1", "name of the case"),
                "flow": ("flow", _words(self.flows), "1", "name of the flow"),
                "measure": ("measure", _words(measures), "1", "name of the measure"),
                "description": (
                    "case",
                    _words(data.attrs["label"] for data in parts.values()),
                    "1",
                    "loss, optimizer and start of the case",
                ),
                "unit": (
                    "measure",
                    _words(unit for unit, _ in MEASURES.values()),
                    "1",
                    "unit of each measure",
                ),
            },
        )
        return {TABLE: table}


def _words(values: Any) -> np.ndarray:
    return np.array(list(values), object)
