"""A flow's vector field on the clock of a segment."""

from collections.abc import Callable

import diffrax
import equinox as eqx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..core.arrays import RealScalarLike
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
        restore: From the state that the solver integrates, a flat one perhaps, to the flow's own.
    """

    flow: AbstractFlow
    t_offset: Float[Array, ""]
    restore: Callable[[PyTree[Array]], PyTree[Array]] | None = eqx.field(static=True, default=None)

    @traced_once
    def __call__(self, t: Array, state: PyTree[Array], args: Potential) -> PyTree[Array]:
        """Return the vector field at `t_offset + t`."""
        time = self.t_offset.astype(t.dtype) + t
        if self.restore is None:
            return self.flow.vector_field(time, state, args)
        return ravel_pytree(self.flow.vector_field(time, self.restore(state), args))[0]


class Clock(eqx.Module):
    """In the place of a vector field for a solver made for a flow, which evaluates its equation.

    Tracing a vector field that is not used would take as long as tracing a step.

    Attributes:
        t_offset: The time at which the segment starts.
    """

    t_offset: Float[Array, ""]

    def __call__(self, t: RealScalarLike, state: PyTree[Array], args: Potential) -> PyTree[Array]:
        """Return the state, as what has its shapes: diffrax 0.7.2 asks for no more."""
        del t, args
        return state


def segment_start(terms: diffrax.AbstractTerm) -> Float[Array, ""] | float:
    """Return the time at which a solve's clock starts, for solvers whose fields depend on time."""
    # diffrax 0.7.2 wraps the term of a solve in one that knows the direction of time.
    while not hasattr(terms, "vector_field") and hasattr(terms, "term"):
        terms = terms.term  # pyright: ignore[reportAttributeAccessIssue]
    return getattr(getattr(terms, "vector_field", None), "t_offset", 0.0)
