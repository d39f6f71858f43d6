"""A flow's vector field on the clock of a segment."""

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from ..core.compilation import traced_once
from ..core.flow import AbstractFlow
from ..core.potential import Potential


class ShiftedField(eqx.Module):
    """A flow's vector field on a clock that starts at 0 in each segment.

    Steps of a fixed size relative to the segment keep their precision in float32 however long the
    run is; only fields that depend on time see the difference.

    Attributes:
        flow: The flow.
        t_offset: The time at which the segment starts.
    """

    flow: AbstractFlow
    t_offset: Float[Array, ""]

    @traced_once
    def __call__(self, t: Array, state: PyTree[Array], args: Potential) -> PyTree[Array]:
        """Return the vector field at `t_offset + t`."""
        return self.flow.vector_field(self.t_offset.astype(t.dtype) + t, state, args)
