"""The abstraction of an optimizer: the discrete map that a flow models."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .arrays import Vector
from .cost import Cost
from .potential import Potential
from .schedules import Rate
from .trees import Params, squared_norm


class AbstractOptimizer(eqx.Module):
    """A discrete map on parameters: `init`, `step`, and `params` to read a state.

    A new optimizer is a final subclass with the five members below, a frozen module.
    Hyperparameters are array leaves, so that `jax.vmap` works over them and a new value does not
    recompile. Where more is known of a map, subclass one of the abstract classes in this file
    that say so; flows ask for them.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flows import AbstractOptimizer, Cost, iterate
        >>> class Scaled(AbstractOptimizer):
        ...     rates: jax.Array
        ...     def init(self, params):
        ...         return params
        ...     def step(self, state, potential):
        ...         return state - self.rates * jax.grad(potential)(state)
        ...     def params(self, state):
        ...         return state
        ...     @property
        ...     def critical_sharpness(self):
        ...         return 2 / jnp.max(self.rates)
        ...     @property
        ...     def cost(self):
        ...         return Cost(gradients=1)
        >>> optimizer = Scaled(jnp.asarray([0.5, 0.1]))
        >>> run = iterate(optimizer, lambda w: 0.5 * jnp.sum(w**2), jnp.ones(2), steps=2)
        >>> [round(float(x), 6) for x in run.params[-1]]
        [0.25, 0.81]
    """

    @abc.abstractmethod
    def init(self, params: Params) -> PyTree[Array]:
        """Return the state that starts at `params`: a named pytree of arrays."""

    @abc.abstractmethod
    def step(self, state: PyTree[Array], potential: Potential) -> PyTree[Array]:
        """Return the state after one step on `potential`."""

    @abc.abstractmethod
    def params(self, state: PyTree[Array]) -> Params:
        """Return the parameters w_t of a state: where the next step takes its gradient."""

    @property
    @abc.abstractmethod
    def critical_sharpness(self) -> Float[Array, ""]:
        """The curvature of a quadratic above which the map is unstable; inf if none is.

        For a map with a preconditioner P it is that of P^-1 H, with P without the learning rate;
        for one with a schedule, late in a run.

        Raises:
            ValueError: If no curvature decides, with a sentence why.
        """

    @property
    @abc.abstractmethod
    def cost(self) -> Cost:
        """What one step costs."""


class AbstractLocalThreshold(AbstractOptimizer):
    """An optimizer whose critical sharpness depends on where it is: on the gradient there.

    Its property `critical_sharpness` is the number that holds everywhere, and raises a ValueError
    where there is none; `flows.critical_sharpness(optimizer, state, potential)` asks here.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import SAM, AbstractLocalThreshold, GradientDescent
        >>> optimizer, bowl = SAM(GradientDescent(0.1), 0.05), lambda w: 0.5 * jnp.sum(w**2)
        >>> isinstance(optimizer, AbstractLocalThreshold)
        True
        >>> round(float(optimizer.critical_sharpness_at(jnp.asarray([3.0, 4.0]), bowl)), 3)
        17.082
    """

    @abc.abstractmethod
    def critical_sharpness_at(self, params: Params, potential: Potential) -> Float[Array, ""]:
        """Return the critical sharpness at parameters, late in a run with a schedule.

        Args:
            params: Where.
            potential: The loss, of which one gradient is taken.
        """


class AbstractIncrementalOptimizer(AbstractOptimizer):
    """An optimizer that also knows what a step adds to its state.

    The difference of two states loses the digits that they share: a flow that models the map by
    its increments F(z) = step(z) - z takes them from here where they are known.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent
        >>> slow, bowl = GradientDescent(1e-20), lambda w: 0.5 * jnp.sum(w**2)
        >>> state = slow.init(jnp.ones(1))
        >>> float((slow.step(state, bowl).params - state.params)[0])
        0.0
        >>> float(slow.increment(state, bowl).params[0])
        -1e-20
    """

    @abc.abstractmethod
    def increment(self, state: PyTree[Array], potential: Potential) -> PyTree[Array]:
        """Return `step(state) - state`, a pytree like `state`, without the cancellation."""


class AbstractGradientMethod(AbstractOptimizer):
    """An optimizer that follows the gradient at small steps: dw/dt = -limit_rate g(w).

    Here t counts steps and g is the gradient of the loss. What else the state holds (momentum)
    follows the parameters in that limit.

    Example:
        >>> from flows import HeavyBall, Nesterov
        >>> float(HeavyBall(0.1, 0.5).limit_rate), float(Nesterov(0.1, 0.5).limit_rate)
        (0.2, 0.2)
    """

    @property
    @abc.abstractmethod
    def limit_rate(self) -> Float[Array, ""]:
        """The rate of the limit, in parameter^2 / loss per step; late in a run with a schedule."""


class AbstractDescent(AbstractIncrementalOptimizer):
    """An optimizer whose step is w' = w - eta (g(w) + lambda w), without memory.

    A flow needs to know of it the learning rate eta, the weight decay lambda and the critical
    sharpness, and that the map's derivative is symmetric: its eigenvalues are real. It descends
    L + lambda |w|^2 / 2, which `objective` makes of the loss L.

    Attributes:
        learning_rate: eta, scalar, above 0, or a `Schedule`.
        weight_decay: lambda, scalar, at least 0, per unit of eta; None if there is none.

    Example:
        >>> from flows import AbstractDescent, GradientDescent, HeavyBall
        >>> isinstance(GradientDescent(0.1), AbstractDescent)
        True
        >>> isinstance(HeavyBall(0.1, 0.9), AbstractDescent)
        False
    """

    learning_rate: eqx.AbstractVar[Rate]
    weight_decay: eqx.AbstractVar[Float[Array, ""] | None]


class Decayed(eqx.Module):
    """A loss with the potential of weight decay, L(w) + lambda |w|^2 / 2.

    Attributes:
        potential: L.
        weight_decay: lambda, scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.core.optimizer import Decayed
        >>> float(Decayed(lambda w: w[0], jnp.asarray(0.1))(jnp.asarray([2.0, 4.0])))
        3.0
    """

    potential: Potential
    weight_decay: Float[Array, ""]

    def __call__(self, params: Params) -> Float[Array, ""]:
        """Return L(w) + lambda |w|^2 / 2."""
        loss, square = self.potential(params), squared_norm(params)
        penalty = 0.5 * self.weight_decay.astype(square.dtype) * square
        return loss + penalty.astype(jnp.result_type(loss))


def objective(optimizer: AbstractOptimizer, potential: Potential) -> Potential:
    """Return the loss whose gradient an optimizer follows: with its weight decay, if it has one.

    Args:
        optimizer: Any optimizer; only an `AbstractDescent` has a weight decay that is a gradient.
        potential: The loss L.

    Returns:
        `potential` itself, or L + lambda |w|^2 / 2. Its Hessian is H + lambda: where that reaches
        2/eta, H reaches the critical sharpness 2/eta - lambda.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent
        >>> from flows.core.optimizer import objective
        >>> loss = lambda w: w[0]
        >>> objective(GradientDescent(0.1), loss) is loss
        True
        >>> decayed = objective(GradientDescent(0.1, weight_decay=0.5), loss)
        >>> float(decayed(jnp.asarray([2.0])))
        3.0
    """
    if isinstance(optimizer, AbstractDescent) and optimizer.weight_decay is not None:
        return Decayed(potential, optimizer.weight_decay)
    return potential


class AbstractAdaptiveMethod(AbstractIncrementalOptimizer):
    """An optimizer that divides what it adds by a preconditioner P, made of the gradients it saw.

    P multiplies no learning rate here. At a fixed P it is stable where lambda_max(P^-1 H), the
    preconditioned sharpness, is below its critical sharpness.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import RMSProp
        >>> optimizer = RMSProp(0.1, b2=0.5, eps=0.0)
        >>> bowl, state = lambda w: 0.5 * jnp.sum(w**2), optimizer.init(jnp.asarray([2.0, 1.0]))
        >>> [round(float(x), 4) for x in optimizer.preconditioner(state, bowl)]
        [1.4142, 0.7071]
    """

    @abc.abstractmethod
    def preconditioner(self, state: PyTree[Array], potential: Potential) -> Vector:
        """Return the diagonal of P in the step from a state, flat (P,).

        It is 0 for a parameter that never had a gradient where nothing is added to the root.
        """


class AbstractCheckedOptimizer(AbstractOptimizer):
    """An optimizer whose step can fail, and whose steps do not all cost the same.

    Where a step fails its parameters are not finite, which ends a run.

    Attributes:
        failures: What can go wrong, a sentence each; `{detail}` is replaced by the number that
            `failure` returns.

    Example:
        >>> from flows import AbstractCheckedOptimizer, RollingBall
        >>> ball = RollingBall(0.1, 0.5)
        >>> isinstance(ball, AbstractCheckedOptimizer), all(ball.failures)
        (True, True)
    """

    failures: eqx.AbstractClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def failure(self, state: PyTree[Array]) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return 0, or i where `failures[i - 1]` happened, and the number that belongs to it."""

    @abc.abstractmethod
    def spent(self, state: PyTree[Array]) -> Cost:
        """Return what the steps up to `state` cost."""
