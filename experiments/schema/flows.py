"""The `[[flows]]` tables: the continuous models that run beside the optimizer, one class per kind.

A new kind is one class here and its name in `FlowTable`.
"""

import abc
from typing import Annotated, Any, Literal

import pydantic

from .base import Name, Table
from .solvers import SolverTable

RESERVED_LABELS = ("discrete", "landscape")


def _not_reserved(label: str) -> str:
    if label in RESERVED_LABELS:
        raise ValueError(f"may not be one of {', '.join(RESERVED_LABELS)}: the store uses them")
    return label


Label = Annotated[Name, pydantic.AfterValidator(_not_reserved)]


class AbstractFlowTable(Table, abc.ABC):
    """A table that builds a flow of `flows`; `label` (by default the kind) names its results."""

    label: Label
    solver: SolverTable = SolverTable()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _label_is_the_kind_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("kind"), str):
            return {"label": data["kind"], **data}
        return data

    @abc.abstractmethod
    def build(self, optimizer: Any) -> Any:
        """Build the flow.

        Args:
            optimizer: the built optimizer that the flow models.

        Returns:
            A flow of `flows`.
        """


class GradientFlowTable(AbstractFlowTable):
    """`kind = "gradient"`: gradient flow, with the backward-error correction if asked for."""

    kind: Literal["gradient"]
    correction: bool = False

    def build(self, optimizer: Any) -> Any:
        """Build a `flows.GradientFlow`."""
        import flows

        return flows.GradientFlow(optimizer, correction=self.correction)


# With a second kind this becomes a union discriminated by `kind`, as in schema/potentials.py.
FlowTable = GradientFlowTable
