"""The tables of dissipative mechanics (arXiv 2605.15459): its friction laws, and its flow.

The flow models no optimizer and has its own time, of which `steps` is the horizon: its step is a
time, and it has no `distance`. `velocity` (flattened) is the initial one, by default 0.
"""

import abc
from typing import TYPE_CHECKING, Annotated, Any

from .base import BuildError, Table, Vector
from .derived import built_table
from .flows import FLOWS, flow_table
from .kinds import OneOf, Registry

if TYPE_CHECKING:
    import flows


class AbstractFrictionTable(Table, abc.ABC):
    """A table that builds a friction law, `friction = { kind = "viscous", coefficient = 1.0 }`."""

    kind: str

    @abc.abstractmethod
    def build(self) -> "flows.AbstractFriction":
        """Build the law."""


FRICTIONS: Registry[type[AbstractFrictionTable]] = Registry("friction")
FrictionTable = Annotated[AbstractFrictionTable, OneOf(FRICTIONS)]


for _kind, _law in (("viscous", "Viscous"), ("quadratic", "Quadratic"), ("coulomb", "Coulomb")):
    FRICTIONS.add(built_table(AbstractFrictionTable, _kind, f"flows.{_law}"))


def _supplied(table: Any, optimizer: Any, start: Any) -> dict[str, Any]:
    """The law, and the velocity in the parameters' structure."""
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    del optimizer
    velocity = None
    if table.velocity is not None:
        flat, unravel = ravel_pytree(start)
        if len(table.velocity) != flat.size:
            message = f"given {len(table.velocity)} numbers; this potential has {flat.size}"
            raise BuildError("velocity", f"{message} parameters")
        velocity = unravel(jnp.asarray(table.velocity))
    return {"friction": table.friction.build(), "velocity": velocity}


FLOWS.add(
    flow_table(
        "dissipative",
        "flows.DissipativeFlow",
        batched=True,
        solver="tsit5",
        keys={"friction": FrictionTable, "velocity": (Vector, None)},
        supplied=_supplied,
    )
)
