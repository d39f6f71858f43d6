"""Friction laws of dissipative mechanics: how fast a particle's velocity is damped.

Every law here acts against the velocity and depends only on its length, so that it is one number:
the rate r of the deceleration -r v, with r a function of the speed |v|_G in the metric of the
landscape. The power it dissipates is r |v|_G^2 (arXiv 2605.15459).
"""

import abc
from functools import partial

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core.trees import root
from ..core.validation import non_negative, positive


class AbstractFriction(eqx.Module):
    """A friction law: it acts against the velocity, with the deceleration `-rate(|v|_G^2) v`.

    A new law is a final, frozen subclass with the one method.

    Example:
        >>> import jax.numpy as jnp
        >>> import flows
        >>> class Stokes(flows.AbstractFriction):
        ...     '''Viscous friction that grows with the speed, r = 1 + |v|^2.'''
        ...
        ...     def rate(self, squared_speed):
        ...         return 1 + squared_speed
        >>> flow = flows.DissipativeFlow(0.0, Stokes())
        >>> state = flows.DissipativeState(jnp.zeros(1), jnp.asarray([2.0]))
        >>> flow.vector_field(0.0, state, lambda w: 0.0 * jnp.sum(w)).velocity.tolist()
        [-10.0]
    """

    @abc.abstractmethod
    def rate(self, squared_speed: Float[Array, ""]) -> Float[Array, ""]:
        """Return the rate of damping r, in 1 / time, at least 0.

        Args:
            squared_speed: |v|_G^2 = v^T G v, in parameter^2 / time^2.

        Returns:
            r in the dtype of `squared_speed`, differentiable, at rest too.
        """


class Viscous(AbstractFriction):
    """Viscous friction, -gamma v: the energy changes at the rate -gamma |v|_G^2.

    Of the three laws only this one brings every particle to rest exactly on the critical set, and
    exponentially fast where the minima form a manifold that is non-degenerate across.

    Attributes:
        coefficient: gamma, in 1 / time, scalar, at least 0; 0 is no friction.

    Raises:
        ValueError: If `coefficient` is not one finite number of at least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Viscous
        >>> float(Viscous(0.5).rate(jnp.asarray(4.0)))
        0.5
    """

    coefficient: Float[Array, ""] = eqx.field(converter=partial(non_negative, "coefficient"))

    def rate(self, squared_speed: Float[Array, ""]) -> Float[Array, ""]:
        """Return gamma."""
        return self.coefficient.astype(squared_speed.dtype)


class Quadratic(AbstractFriction):
    """Quadratic drag, -c |v|_G v: the energy changes at the rate -c |v|_G^3.

    It weakens with the speed: in a well the energy decays only as 9 pi^2 / (32 c^2 t^2), so that a
    particle never quite comes to rest.

    Attributes:
        coefficient: c, in 1 / parameter, scalar, at least 0.

    Raises:
        ValueError: If `coefficient` is not one finite number of at least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Quadratic
        >>> float(Quadratic(0.5).rate(jnp.asarray(4.0)))
        1.0
    """

    coefficient: Float[Array, ""] = eqx.field(converter=partial(non_negative, "coefficient"))

    def rate(self, squared_speed: Float[Array, ""]) -> Float[Array, ""]:
        """Return c |v|_G."""
        return self.coefficient.astype(squared_speed.dtype) * root(squared_speed)


class Coulomb(AbstractFriction):
    """Dry friction, -mu v / |v|_G, made continuous: -mu v / sqrt(|v|_G^2 + width^2).

    Coulomb's own law jumps at rest, where no solver of ordinary differential equations is right: a
    particle sticks there for good once grav |g| / sqrt(1 + |g|^2) <= mu. The regularised law
    differs from it by a share of width^2 / (2 |v|_G^2). Where Coulomb's particle would stick, this
    one creeps at the speed s width / sqrt(1 - s^2) with s = grav |g| / (mu sqrt(1 + |g|^2)), thus
    by less than `width` per unit of time as long as s < 0.7; where it would not, it does not stop
    either. Energy is dissipated at the rate mu |v|_G^2 / sqrt(|v|_G^2 + width^2). Near rest it is
    viscous friction of coefficient mu / width, which is what limits an explicit solver's steps.

    By itself it brings a particle not to the set of minima but to a band around it.

    Attributes:
        coefficient: mu, in parameter / time^2, scalar, at least 0.
        width: Speed below which the law is regularised, in parameter / time, scalar, above 0.

    Raises:
        ValueError: If `coefficient` is not one finite number of at least 0, or `width` not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Coulomb
        >>> law = Coulomb(0.5)
        >>> round(float(law.rate(jnp.asarray(4.0))), 6), float(law.rate(jnp.asarray(0.0)))
        (0.25, 500.0)
    """

    coefficient: Float[Array, ""] = eqx.field(converter=partial(non_negative, "coefficient"))
    width: Float[Array, ""] = eqx.field(converter=partial(positive, "width"), default=1e-3)

    def rate(self, squared_speed: Float[Array, ""]) -> Float[Array, ""]:
        """Return mu / sqrt(|v|_G^2 + width^2)."""
        dtype = squared_speed.dtype
        return self.coefficient.astype(dtype) / jnp.sqrt(
            squared_speed + jnp.square(self.width.astype(dtype))
        )


class TotalFriction(AbstractFriction):
    """Several friction laws that act together: their rates add.

    Attributes:
        laws: The laws, at least one.

    Raises:
        ValueError: If `laws` holds something else, or nothing.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Quadratic, TotalFriction, Viscous
        >>> float(TotalFriction(Viscous(0.5), Quadratic(0.5)).rate(jnp.asarray(4.0)))
        1.5
    """

    laws: tuple[AbstractFriction, ...]

    def __init__(self, *laws: AbstractFriction):
        if not laws:
            raise ValueError("laws must hold at least one friction law such as Viscous(1.0).")
        self.laws = tuple(check_friction(law) for law in laws)

    def rate(self, squared_speed: Float[Array, ""]) -> Float[Array, ""]:
        """Return the sum of the laws' rates."""
        rates = [law.rate(squared_speed) for law in self.laws]
        return jnp.sum(jnp.stack(rates))


def check_friction(value: object) -> AbstractFriction:
    """Check that `value` is a friction law.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, AbstractFriction):
        return value
    raise ValueError(
        "friction must be a friction law: Viscous(1.0), Quadratic(1.0), Coulomb(1.0), or several "
        f"of them, TotalFriction(Viscous(1.0), Quadratic(0.1)); got {value!r}."
    )
