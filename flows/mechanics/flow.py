"""Dissipative Riemannian mechanics (DiMS): a particle that slides on the loss and comes to rest.

The particle moves on the graph of the loss L over the parameters w, whose metric is G = I + g g^T
with the gradient g. Its kinetic energy is v^T G v / 2, its potential energy grav L, and friction
damps its velocity at a rate r (arXiv 2605.15459):

    dw/dt = v,    dv/dt = -g (v^T H v + grav) / (1 + |g|^2) - r v,    dE/dt = -r v^T G v.

Without gravity and friction it is a geodesic of the graph. With friction that wins over inertia,
in the time s = t / gamma, it is a gradient flow in that metric, dw/ds = -grav g / (1 + |g|^2).
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Real

from ..core.cost import Cost
from ..core.flow import AbstractFlow, Midpoint
from ..core.potential import Potential
from ..core.trees import Params, add_scaled, dot, root, scaled, squared_norm
from ..core.validation import as_params, non_negative
from ..core.variables import LOSS, TIME, Variable
from .friction import AbstractFriction, check_friction

_ENERGY: Final = "parameter^2 / time^2"
_VARIABLES: Final = {
    "predicted_loss": Variable(LOSS, "loss where the particle is"),
    "kinetic_energy": Variable(_ENERGY, "kinetic energy v^T G v / 2 on the graph of the loss"),
    "potential_energy": Variable(_ENERGY, "potential energy, gravity times loss"),
    "total_energy": Variable(_ENERGY, "kinetic and potential energy"),
    "dissipated_power": Variable(f"{_ENERGY} / time", "energy lost to friction per unit of time"),
    "speed": Variable("parameter / time", "speed sqrt(v^T G v) on the graph of the loss"),
}


class DissipativeState(eqx.Module):
    """State of dissipative mechanics: where the particle is, and how it moves.

    Attributes:
        position: The parameters w(t).
        velocity: dw/dt, a pytree like `position`, in parameter / time.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import DissipativeFlow, DissipativeState, Viscous
        >>> state = DissipativeState(jnp.asarray([1.0]), jnp.asarray([2.0]))
        >>> bowl = lambda w: 0.5 * jnp.sum(w**2)
        >>> rate = DissipativeFlow(10.0, Viscous(1.0)).vector_field(0.0, state, bowl)
        >>> rate.position.tolist(), rate.velocity.tolist()
        ([2.0], [-9.0])
    """

    position: Params
    velocity: Params


class DissipativeFlow(AbstractFlow):
    """A particle on the graph of the loss, with gravity and friction (arXiv 2605.15459).

    dw/dt = v,    dv/dt = -g (v^T H v + grav) / (1 + |g|^2) - r v,

    with the rate r of the friction law. It models no optimizer: its time is its own (`simulate`'s
    `steps` is the time horizon), and it has no midpoints to be compared with. One evaluation costs
    a gradient and a Hessian-vector product, for any pytree of parameters.

    Attributes:
        gravity: grav, the weight of the loss in the energy, in parameter^2 / (loss time^2), scalar,
            at least 0.
        friction: The friction law: `Viscous`, `Quadratic`, `Coulomb` or a `TotalFriction`.
        velocity: The initial velocity, a pytree like the parameters; None starts from rest. It is
            part of the flow as the initial momentum is part of an optimizer: `init` needs nothing
            else than the start, and `jax.vmap` over velocities is one over flows,
            `jax.vmap(lambda v: simulate(DissipativeFlow(10.0, Viscous(1.0), v), ...))(velocities)`.

    Raises:
        ValueError: If `gravity` is not one finite number of at least 0, `friction` no friction law,
            or `velocity` no pytree of finite floats.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import DissipativeFlow, Viscous, simulate
        >>> from potentials import Ring
        >>> flow = DissipativeFlow(gravity=10.0, friction=Viscous(1.0))
        >>> run = simulate(flow, Ring(), jnp.asarray([0.5, 0.0]), steps=20.0, save_every=10.0)
        >>> [round(float(x), 4) for x in run.observables["total_energy"]]
        [1.4062, 0.0001, 0.0]
    """

    gravity: Float[Array, ""] = eqx.field(converter=partial(non_negative, "gravity"))
    friction: AbstractFriction = eqx.field(converter=check_friction)
    velocity: Params | None = eqx.field(
        default=None, converter=lambda v: None if v is None else as_params(v, "velocity")
    )

    midpoint: ClassVar[Midpoint | None] = None
    time_unit: ClassVar[str] = TIME
    variables: ClassVar[Mapping[str, Variable]] = _VARIABLES

    def init(self, potential: Potential, params: Params) -> DissipativeState:
        """Return the state at `params` with the initial velocity.

        Raises:
            ValueError: If the velocity is no pytree like `params`.
        """
        del potential
        if self.velocity is None:
            return DissipativeState(params, jax.tree.map(jnp.zeros_like, params))
        return DissipativeState(params, _like(params, self.velocity))

    def vector_field(
        self, t: Real[Array, ""] | float, state: DissipativeState, args: Potential
    ) -> DissipativeState:
        """Return v, and -g (v^T H v + grav) / (1 + |g|^2) - r v."""
        del t
        velocity = state.velocity
        gradient, product = jax.jvp(jax.grad(args), (state.position,), (velocity,))
        # In units of the slope where it is steep: its square may overflow, and a force that is
        # divided by infinity would vanish.
        entries = [jnp.max(jnp.abs(x), initial=1) for x in jax.tree.leaves(gradient)]
        unit = lax.stop_gradient(jnp.max(jnp.stack(entries)))
        slope = scaled(1 / unit, gradient)
        weight = dot(velocity, product) + self.gravity.astype(unit.dtype)
        force = (weight / unit) / (1 / unit**2 + squared_norm(slope))
        rate = self.friction.rate(squared_norm(velocity) + dot(gradient, velocity) ** 2)
        return DissipativeState(velocity, add_scaled(scaled(-rate, velocity), -force, slope))

    def params(self, state: DissipativeState) -> Params:
        """Return w(t)."""
        return state.position

    @property
    def observables_cost(self) -> Cost:
        """A gradient."""
        return Cost(gradients=1)

    def observables(self, state: DissipativeState, potential: Potential) -> dict[str, Array]:
        """Return loss, energies, dissipated power and speed."""
        loss, gradient = jax.value_and_grad(potential)(state.position)
        squared_speed = squared_norm(state.velocity) + dot(gradient, state.velocity) ** 2
        kinetic = squared_speed / 2
        potential_energy = self.gravity.astype(loss.dtype) * loss
        return {
            "predicted_loss": loss,
            "kinetic_energy": kinetic,
            "potential_energy": potential_energy,
            "total_energy": kinetic + potential_energy,
            "dissipated_power": self.friction.rate(squared_speed) * squared_speed,
            "speed": root(squared_speed),
        }

    @property
    def cost(self) -> Cost:
        """One gradient and one Hessian-vector product, of the same linearisation."""
        return Cost(gradients=1, hvps=1)


def _like(params: Params, velocity: Params) -> Params:
    """Return the velocity in the dtype of the parameters, if it has their structure and shapes."""
    given, wanted = jax.tree.structure(velocity), jax.tree.structure(params)
    if given != wanted:
        raise ValueError(f"velocity must have the structure of params, {wanted}; got {given}.")
    for (path, w), v in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(velocity), strict=True
    ):
        if w.shape != v.shape:
            name = jax.tree_util.keystr(path)
            raise ValueError(f"velocity{name} must have shape {w.shape}; got {v.shape}.")
    return jax.tree.map(lambda w, v: v.astype(w.dtype), params, velocity)
