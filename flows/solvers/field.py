"""A flow's vector field on the clock of a segment."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from ..core.compilation import traced_once
from ..core.flow import AbstractFlow


class ShiftedField(eqx.Module):
    """A flow's vector field on a clock that starts at 0 in each segment.

    Steps of a fixed size relative to the segment keep their precision in float32 however long the
    run is; only fields that depend on time see the difference.
    """

    flow: AbstractFlow
    t_offset: Float[Array, ""]

    def __call__(self, t: Any, state: Any, args: Any) -> PyTree[Array]:
        """Return the vector field at `t_offset + t`."""
        return _vector_field(self.flow, self.t_offset.astype(t.dtype) + t, state, args)


@traced_once
def _vector_field(flow: AbstractFlow, t: Array, state: Any, args: Any) -> PyTree[Array]:
    return flow.vector_field(t, state, args)
