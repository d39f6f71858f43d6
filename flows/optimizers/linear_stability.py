"""The curvature at which any optimizer turns unstable, from the Jacobian of its map at rest.

On the quadratic (S/2) (x - 1)^2, at its minimum and with momenta zero, a step is linearised in
what answers to the sign of the gradient: the parameter and the momenta. (A minimum at zero would
be special for what scales a step with the size of the parameters.) Second moments, counters and
flags do not depend, to first order, on where the parameter is: the Jacobian of the whole map is
block triangular, and their block has nothing to do with the curvature.

No name of a field of any optimizer is used. What each number of a state is shows in how it answers
to a gradient and to its opposite. The preconditioner P is a product of powers of second moments;
the powers show in how the response to a gradient depends on each of them, and whether their values
before or after the step enter shows in how that response depends on the size of the gradient.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..core.optimizer import AbstractOptimizer
from ..core.schedules import LATE
from ..core.trees import Params

# Large, so that an epsilon added to it or to its root is negligible.
SECOND_MOMENT = 1e16

# A spectral radius this far above 1 is not a rounding error.
_EXCESS = 1e-9
# The gradient where the map is linearised: not at zero, where a norm has no derivative.
_NEAR = 1e-6
# Up to this gradient a map that is differentiable at rest is linear to a thousandth.
_FAR = 1e-3
_LINEAR = 1e-3
# The gradient at which the response shows whether second moments contain it.
_VISIBLE = 1e-2
# The range of curvatures, in units of the inverse of the response, and the steps through it.
_LOWEST, _HIGHEST, _FACTOR = 1e-4, 1e8, 2**0.25

Numbers = Float[np.ndarray, " number"]
Mask = Bool[np.ndarray, " number"]
Moments = Float[np.ndarray, " moment"]


class _Step(NamedTuple):
    """The state after a step, and the derivatives of its numbers.

    Attributes:
        numbers: The float numbers.
        others: The leaves of other types.
        jacobian: The derivative of `numbers` with those before.
        response: The derivative of `numbers` with the gradient.
    """

    numbers: Numbers
    others: PyTree[Array]
    jacobian: Float[np.ndarray, "number number"]
    response: Numbers


class _Map(NamedTuple):
    """An optimizer's map of the state of one parameter.

    Attributes:
        step: `step(numbers, others, curvature, gradient)` on a quadratic with this gradient at
            x = 1; on a straight line if the curvature is zero.
        numbers: The floats of the first state, at x = 1.
        others: The leaves of other types.
        parameter: Which of the numbers is x.
        name: The optimizer's, for messages.
    """

    step: Callable[..., _Step]
    numbers: Numbers
    others: PyTree[Array]
    parameter: int
    name: str


def linear_threshold(
    optimizer: AbstractOptimizer, *, second_moment: float = SECOND_MOMENT
) -> float:
    """Return the smallest lambda_max(P^-1 H) at which an optimizer's map is unstable.

    Args:
        optimizer: Any optimizer whose hyperparameters are concrete numbers.
        second_moment: The value of all second moments; the result does not depend on it as long
            as an epsilon beside it is negligible.

    Returns:
        The threshold, for P without the learning rate; inf if no curvature is unstable.

    Raises:
        ValueError: If the map jumps at rest, or changes from step to step in a cycle, or cannot
            be followed for another reason, which the message gives.
    """
    name = type(optimizer).__name__
    # Computed at once, even inside of a function that is being compiled, and in float64 always.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        try:
            return _threshold(_one_parameter(optimizer), second_moment)
        except jax.errors.JAXTypeError as error:
            raise ValueError(
                f"the critical sharpness of {name} is found numerically: it must be asked for "
                "outside of jax.vmap, jax.grad and jax.jit over the hyperparameters. Optimizers "
                "with a formula, such as HeavyBall, are not limited so."
            ) from error


def has_second_moment(optimizer: AbstractOptimizer) -> bool:
    """Return True if a part of an optimizer's state answers to the size of gradients, not the sign.

    Args:
        optimizer: Any optimizer whose hyperparameters are concrete numbers.

    Raises:
        ValueError: If the optimizer does not take a single array for parameters.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        of = _one_parameter(optimizer)
        return bool(np.any(_roles(of, of.others)[1]))


def _one_parameter(optimizer: AbstractOptimizer) -> _Map:
    # A matrix of one entry: a rule for matrices (muon) treats it as one.
    name = type(optimizer).__name__
    try:
        state = optimizer.init(jnp.ones((1, 1)))
    except Exception as error:
        raise ValueError(
            f"the critical sharpness of {name} cannot be found, since it does not take a single "
            f"array for parameters: {error}"
        ) from error
    floats, others = eqx.partition(state, eqx.is_inexact_array)
    numbers, unravel = ravel_pytree(floats)

    def moved(numbers: Array, gradient: Array, others: PyTree[Array], curvature: Array):
        def potential(params: Params) -> Float[Array, ""]:
            x = jnp.sum(params) - 1
            # The minimum is zero: a step in proportion to the loss above it (Polyak's) needs that.
            above = jnp.where(curvature > 0, gradient**2 / (2 * curvature), 1.0)
            return curvature / 2 * x**2 + gradient * x + above

        new = optimizer.step(eqx.combine(unravel(numbers), others), potential)
        floats, others = eqx.partition(new, eqx.is_inexact_array)
        numbers = ravel_pytree(floats)[0]
        return numbers, (numbers, others)

    @jax.jit
    def linearised(numbers: Array, others: PyTree[Array], curvature: Array, gradient: Array):
        derivatives, values = jax.jacfwd(moved, argnums=(0, 1), has_aux=True)(
            numbers, gradient, others, curvature
        )
        return *values, *derivatives

    def step(numbers: Numbers, others: PyTree[Array], curvature: float, gradient: float) -> _Step:
        # Of one type always, not weak ones of Python's numbers: compiled once.
        given = np.float64(curvature), np.float64(gradient)
        numbers, others, jacobian, response = linearised(numbers, others, *given)
        return _Step(np.asarray(numbers), others, np.asarray(jacobian), np.asarray(response))

    # Which number is the parameter: read it from a state of the numbers' own indices.
    indices = eqx.combine(unravel(jnp.arange(numbers.size, dtype=numbers.dtype)), others)
    parameter = int(jax.tree.leaves(optimizer.params(indices))[0].item())
    return _Map(step, np.asarray(numbers), others, parameter, name)


def _threshold(of: _Map, second_moment: float) -> float:
    others = _late(of)
    odd, even, clock = _roles(of, others)
    numbers = _summed(of, others, clock)
    numbers[odd], numbers[even], numbers[of.parameter] = 0, 1, 1
    _check_roles(of, numbers, others)
    direction = np.where(odd, 1 / (2 + np.cumsum(odd)), 0)
    direction[of.parameter] = 0

    def step(
        moments: Moments | float = 1.0,
        curvature: float = 0.0,
        gradient: float = _NEAR,
        momenta: float = _NEAR,
    ) -> _Step:
        """Take a step at rest but for a gradient, and momenta along a direction, that are small."""
        start = numbers + momenta * direction
        start[even] = moments
        return of.step(start, others, curvature, gradient)

    _check_linear(of, step, odd, direction)
    moments = np.full(np.sum(even), second_moment)
    response = -step(moments).response[of.parameter]
    if not (np.isfinite(response) and response > 0):
        raise ValueError(
            f"{of.name} has no critical sharpness late in a run: the parameter must move "
            f"against a small gradient there; it moves by {-response:.3g} per unit of gradient."
        )
    preconditioner = _preconditioner(of, step, moments, even)

    def is_unstable(curvature: float) -> bool:
        jacobian = step(moments, curvature).jacobian[np.ix_(odd, odd)]
        return not np.max(np.abs(np.linalg.eigvals(jacobian))) <= 1 + _EXCESS

    curvature = _first(is_unstable, _LOWEST / response, _HIGHEST / response)
    if curvature == 0:
        raise ValueError(f"{of.name} is unstable on quadratics of every curvature above 0.")
    return curvature / preconditioner


def _late(of: _Map) -> PyTree[Array]:
    """Return the leaves that are not floats, as they are late in a run.

    Raises:
        ValueError: If there is a counter that starts again after some steps.
    """

    def is_scalar_integer(leaf: Array) -> bool:
        return jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.shape == ()

    def made_late(leaf: Array) -> Array:
        return jnp.asarray(LATE, leaf.dtype) if is_scalar_integer(leaf) else leaf

    late = jax.tree.map(made_late, of.others)
    after = of.step(of.numbers, late, 0.0, 0.0).others
    paths = jax.tree_util.tree_flatten_with_path(of.others)[0]
    started = jax.tree.leaves(of.step(of.numbers, of.others, 0.0, 0.0).others)
    found = []
    for (path, first), second, last in zip(paths, started, jax.tree.leaves(after), strict=True):
        if not is_scalar_integer(first):
            # A flag of the first step, for example, is one no longer.
            found.append(last)
        elif int(last) == LATE + 1:
            found.append(jnp.asarray(LATE, first.dtype))
        elif int(second) == int(first):
            found.append(first)
        else:
            raise ValueError(
                f"{of.name} has no critical sharpness of a single step: state"
                f"{jax.tree_util.keystr(path)} counts in a cycle, so that steps differ."
            )
    return jax.tree.unflatten(jax.tree.structure(of.others), found)


def _answers(of: _Map, numbers: Numbers, others: PyTree[Array]) -> tuple[Numbers, Numbers, Numbers]:
    """Return how numbers answer to a gradient's sign, to its size, and how they change without."""
    plus, minus, zero = (of.step(numbers, others, 0.0, g).numbers for g in (1.0, -1.0, 0.0))
    return np.abs(plus - minus), np.abs(plus + minus - 2 * zero), zero - numbers


def _roles(of: _Map, others: PyTree[Array]) -> tuple[Mask, Mask, Mask]:
    """Return which numbers are parameter and momenta, second moments, and sums over the steps."""
    to_sign, to_size, unasked = _answers(of, of.numbers, others)
    answers = np.maximum(to_sign, to_size) > 0
    # The smaller of the two need not be zero: where momenta do not start at zero it is not.
    odd = answers & (to_sign > to_size)
    odd[of.parameter] = True
    return odd, answers & ~odd, ~answers & ~odd & (unasked != 0)


def _check_roles(of: _Map, numbers: Numbers, others: PyTree[Array]) -> None:
    """Check, with momenta zero, that each number answers to a sign alone or to a size alone.

    Raises:
        ValueError: If one does not.
    """
    to_sign, to_size, _ = _answers(of, numbers, others)
    if not np.all(np.minimum(to_sign, to_size) <= _EXCESS * (1 + np.abs(numbers))):
        raise ValueError(
            f"{of.name} has no critical sharpness that could be found: a part of its state "
            "answers neither to the sign of a gradient alone nor to its size alone."
        )


def _summed(of: _Map, others: PyTree[Array], clock: Mask) -> Numbers:
    """Return the numbers at the start, but those that are sums over the steps late in a run.

    Raises:
        ValueError: If such a one does not grow by the same amount at each step.
    """
    path = [of.numbers]
    for _ in range(3):
        path.append(of.step(path[-1], others, 0.0, 0.0).numbers)
    growth = path[3] - path[2]
    if np.any(clock & ~np.isclose(growth, path[2] - path[1], rtol=1e-6, atol=0)):
        raise ValueError(
            f"{of.name} has no critical sharpness that could be found: a number of its state "
            "changes unevenly from step to step, whatever the gradient."
        )
    return np.where(clock, path[3] + LATE * growth, of.numbers)


def _check_linear(of: _Map, step: Callable[..., _Step], odd: Mask, direction: Numbers) -> None:
    """Check that the map has its derivative up to gradients that are small but not tiny.

    Raises:
        ValueError: If it does not, or has none.
    """
    at = step(curvature=1.0)
    slope = (at.jacobian[:, odd] @ direction[odd] + at.response)[odd]
    if not np.all(np.isfinite(slope)):
        raise ValueError(
            f"{of.name} has no critical sharpness that could be found: the derivative of its step "
            "is not finite next to rest."
        )
    for size in (_NEAR, _FAR):
        above, below = (
            step(curvature=1.0, gradient=s, momenta=s).numbers[odd] for s in (size, -size)
        )
        rounding = 16 * np.finfo(float).eps * np.max(np.abs(above))
        error = np.max(np.abs(above - below - 2 * size * slope))
        if not error <= _LINEAR * 2 * size * np.max(np.abs(slope)) + rounding:
            raise ValueError(
                f"{of.name} has no critical sharpness: its step jumps where the gradient passes "
                "zero, as that of lion, of sign descent and of a normalised gradient does. It "
                "never rests at a minimum, whatever the curvature."
            )


def _preconditioner(of: _Map, step: Callable[..., _Step], moments: Moments, even: Mask) -> float:
    """Return P at rest, where second moments have these values before the step."""
    count = moments.size
    if not count:
        return 1.0

    def log_response(moments: Moments | float, gradient: float = _NEAR) -> float:
        return float(np.log(-step(moments, gradient=gradient).response[of.parameter]))

    # Each a little less, never more: where the largest of several enters, the others do not. Where
    # the smallest of several equal ones enters (sm3), they share the power that they have together.
    less = 1 - 1e-6
    lowered = moments * np.where(np.eye(count, dtype=bool), less, 1.0)
    together, *single = (
        (log_response(m) - log_response(moments)) / -np.log(less)
        for m in (less * moments, *lowered)
    )
    powers = np.asarray(single)
    if abs(np.sum(powers) - together) > 1e-6:
        powers *= together / np.sum(powers)
    # They are simple fractions, but for rounding.
    twelfths = np.round(12 * powers)
    powers = np.where(np.abs(12 * powers - twelfths) < 1e-5, twelfths / 12, powers)

    # A second moment nu + a g^2 to the power -p in the response changes its derivative, with g,
    # by three times its own change, to lowest order.
    change = log_response(1.0, _VISIBLE) - log_response(1.0)
    seen, rested = (step(gradient=g, momenta=0.0).numbers[even] for g in (_VISIBLE, 0.0))
    own = np.log(seen / rested)
    # The first is taken where several fit: after the step, if the gradient does not show.
    candidates = itertools.product((True, False), repeat=count)
    after = min(candidates, key=lambda chosen: abs(change + 3 * (powers * own) @ chosen))
    used = np.where(after, step(moments, gradient=0.0, momenta=0.0).numbers[even], moments)
    return float(np.exp(powers @ np.log(used)))


def _first(is_unstable: Callable[[float], bool], low: float, most: float) -> float:
    """Return the smallest unstable curvature: 0 if it is below `low`, inf if above `most`."""
    if is_unstable(low):
        return 0.0
    high = low
    while not is_unstable(high):
        low, high = high, high * _FACTOR
        if high > most:
            return np.inf
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if is_unstable(middle) else (middle, high)
    return high
