"""The flow of Alice: its map in the limit of small steps, with momentum in the state."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.arrays import RealScalarLike
from ..core.cost import Cost
from ..core.flow import AbstractFlow
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, scaled
from ..core.validation import boolean
from ..core.variables import LOSS, Variable
from .alice import Alice
from .state import AliceState


def _method(optimizer: object) -> Alice:
    if not isinstance(optimizer, Alice):
        raise ValueError(f"optimizer must be Alice, which this flow models; got {optimizer!r}.")
    if optimizer.redraw:
        raise ValueError(
            "optimizer must have redraw=False: the flow keeps its probes in the state, so that its "
            f"vector field is a function; got {optimizer!r}."
        )
    return optimizer


class AliceFlow(AbstractFlow):
    """The flow of Alice in units of its steps (arXiv 2411.16914; the flow is this project's own).

    With delta(m, s, h, rho) the clipped step of the model and nu = mu + omega delta,

        dmu/dt = phi delta,    dm/dt = (1 - b1) (g(nu) - m),    ds/dt = (1 - b2) (g(nu)^2 - s),

    and h and rho relax at the rate 1 - b2 to what the probes find at nu. Alice that probes at every
    step is exactly Euler's method with steps of one on this flow, with the momentum in the state.
    So the error is of first order in phi, if 1 - b1 and 1 - b2 are in proportion to it. How far nu
    is ahead does not shrink with phi, so that m = g(mu) holds on quadratics only. Where the first
    look-ahead lands far up, at gradients many times those at mu, Euler's step is too long: s then
    remembers such a gradient for 1/(1 - b2) steps, and the clip in the manner of Adam holds Alice
    back, but not its flow.

    The probes are kept in the state, with derivative zero: the vector field is deterministic. It is
    not continuous where the gradient jumps: a solver that adapts its steps looks for each such
    point, which a constant step passes over.

    Attributes:
        optimizer: `Alice`, with redraw=False.
        momentum: True if m is in the state. False puts g(mu) in its place, which is wrong but on
            quadratics with phi = omega (1 - b1): it shows what the momentum is there for.

    Raises:
        ValueError: If an argument is of the wrong kind, or the optimizer draws new probes.

    Example:
        On a quadratic the model without glass moves mu to the minimum at the rate phi = 0.1:

        >>> import jax.numpy as jnp
        >>> from flows import Alice, AliceFlow, simulate
        >>> flow = AliceFlow(Alice(1e-3, glass=False, clip="none"))
        >>> bowl = lambda w: 0.5 * jnp.sum(jnp.asarray([1.0, 10.0]) * w**2)
        >>> run = simulate(flow, bowl, jnp.ones(2), steps=10)
        >>> [round(float(x), 4) for x in run.params[-1]], round(float(jnp.exp(-1.0)), 4)
        ([0.3679, 0.3679], 0.3679)
    """

    optimizer: Alice = eqx.field(converter=_method)
    momentum: bool = eqx.field(static=True, default=True, converter=partial(boolean, "momentum"))

    structural_fields: ClassVar[tuple[str, ...]] = ("momentum",)
    variables: ClassVar[Mapping[str, Variable]] = {
        "predicted_loss": Variable(LOSS, "loss that the flow predicts for the optimizer"),
    }

    def init(self, potential: Potential, params: Params) -> AliceState:
        """Return the state at `params`, all averages as they are found there."""
        return self.counted_init(potential, params)[0]

    def counted_init(self, potential: Potential, params: Params) -> tuple[AliceState, Cost]:
        """Return `init(potential, params)` and what it costs: a step with probes."""
        method = self.optimizer
        state = method.step(method.init(params), potential)
        momentum = state.momentum if self.momentum else None
        found = dataclasses.replace(state, params=params, ahead=None, momentum=momentum, count=None)
        return found, method.cost

    def vector_field(self, t: RealScalarLike, state: AliceState, args: Potential) -> AliceState:
        """Return phi delta, and how the averages relax."""
        method, known = self.optimizer, state
        if not self.momentum:
            known = dataclasses.replace(state, momentum=jax.grad(args)(state.params))
        delta = method.displacement(known, t)
        ahead = add_scaled(state.params, method.omega, delta)
        gradient = jax.grad(args)(ahead)
        curvature, density = method.sample(ahead, gradient, method.directions(state), args, t)

        def relaxed(rate: Float[Array, ""], average: Params, found: Params) -> Params:
            return scaled(rate, jax.tree.map(jnp.subtract, found, average))

        squares = jax.tree.map(jnp.square, gradient)
        return AliceState(
            params=scaled(method.share, delta),
            ahead=None,
            momentum=relaxed(1 - method.b1, state.momentum, gradient) if self.momentum else None,
            second_moment=relaxed(1 - method.b2, state.second_moment, squares),
            curvature=relaxed(method.sampling_rate, state.curvature, curvature),
            density=relaxed(method.sampling_rate, state.density, density),
            probes=jax.tree.map(jnp.zeros_like, state.probes),
        )

    def params(self, state: AliceState) -> Params:
        """Return mu(t)."""
        return state.params

    def observables(self, state: AliceState, potential: Potential) -> dict[str, Array]:
        """Return `predicted_loss` = L(mu)."""
        return {"predicted_loss": potential(state.params)}

    @property
    def cost(self) -> Cost:
        """A gradient ahead, two for each probe, and one at mu if the momentum is not followed."""
        return self.optimizer.cost + Cost(gradients=0 if self.momentum else 1)
