"""Two-cycles of adaptive methods on w^2/2, and how small deviations from them grow.

Without an epsilon and bias corrections w = +-a, m = -+(1 - b1) a / (1 + b1), nu = a^2 repeats with
a = 1 / critical sharpness. Seen in a mirror at each step (w and m change their signs) the two-cycle
is a fixed point of the map; the multipliers there say whether it is stable. A rod that lies along
the two-cycle is a fixed point of Rod Flow.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..system.lazy import flows, jax, jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from flows.optimizers.adaptive import AdaptiveState

Method: TypeAlias = "flows.RMSProp | flows.Adam | flows.NAdam"

# Of a coordinate, or of this much of one that is smaller: a difference for derivatives.
_DIFFERENCE, _SMALLEST = 1e-6, 1e-3


def bowl(w: "Float[Array, ' parameter']") -> "Float[Array, '']":
    """Return |w|^2 / 2, whose gradient is w and whose curvature is 1."""
    return 0.5 * jnp.sum(w**2)


def on_the_cycle(of: "Method") -> "AdaptiveState":
    """Return the state of a method at the upper end of its two-cycle on w^2/2."""
    w = 1 / of.critical_sharpness * jnp.ones(1)
    state = dataclasses.replace(of.init(w), second_moment=w**2)
    share = of.momentum_share
    if share is None:
        return state
    # It lags behind the gradient.
    return dataclasses.replace(state, momentum=-(1 - share) * w / (1 + share))


def mirrored(of: "Method", state: "AdaptiveState") -> "AdaptiveState":
    """Return the state after a step on w^2/2, with w and m mirrored."""
    state = of.step(state, bowl)
    opposite = jax.tree.map(jnp.negative, state)
    return dataclasses.replace(opposite, second_moment=state.second_moment)


def relative(
    of: "Method", deviation: "Float[Array, ' phase']", steps: int
) -> "Float[Array, 'step phase']":
    """Return the deviations from the two-cycle, each coordinate over its own there.

    Args:
        of: The method.
        deviation: That at step 0.
        steps: How many more there are.
    """
    flat, unravel = _flat(on_the_cycle(of))

    def move(z: "Array", _: None) -> "tuple[Array, Array]":
        after = _flat(mirrored(of, unravel(z)))[0]
        return after, z / flat - 1

    return jax.lax.scan(move, flat * (1 + deviation), length=steps + 1)[1]


def multipliers(of: "Method") -> tuple[np.ndarray, np.ndarray]:
    """Return the two-cycle's multipliers per step, and the left eigenvectors in the columns.

    They are those of relative deviations, the largest multiplier first.
    """
    flat = _flat(on_the_cycle(of))[0]
    after = jax.jacfwd(lambda deviation: relative(of, deviation, 1)[1])(jnp.zeros_like(flat))
    values, vectors = np.linalg.eig(np.asarray(after).T)
    order = np.argsort(-np.abs(values), kind="stable")
    return values[order], vectors[:, order]


def rod_growth(of: "Method") -> float:
    """Return the rate per step at which Rod Flow leaves the rod along the two-cycle.

    It is the largest real part of the eigenvalues of the vector field's Jacobian, with central
    differences: the field holds the root of a covariance of lower rank.
    """
    cycle = on_the_cycle(of)
    rod = jnp.concatenate([x for x in (cycle.params, cycle.momentum) if x is not None])
    centre = dataclasses.replace(jax.tree.map(jnp.zeros_like, cycle), second_moment=None)
    flow = flows.RodFlow(of, alignment=False)
    rest = flows.DenseRodState(centre, jnp.outer(rod, rod), cycle.second_moment)
    flat, unravel = _flat(rest)
    step = _DIFFERENCE * jnp.maximum(jnp.abs(flat), _SMALLEST)

    @jax.jit
    @jax.vmap
    def field(z: "Array") -> "Array":
        return _flat(flow.vector_field(0.0, unravel(z), bowl))[0]

    there = field(jnp.concatenate([flat[None] + jnp.diag(step), flat[None] - jnp.diag(step)]))
    above, below = jnp.split(there, 2)
    return float(np.max(np.linalg.eigvals((above - below) / (2 * step[:, None])).real))


def _flat(state: Any) -> "tuple[Array, Callable[[Array], Any]]":
    from jax.flatten_util import ravel_pytree

    return ravel_pytree(state)
