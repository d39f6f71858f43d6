"""Where a segment crosses the boundaries of a ReLU network, and how the gradient jumps there.

Along w + t z the input of each unit is a polynomial of t between the crossings of the layers before
it. Its roots are found, layer by layer, and the gradient is taken on both sides of each: no
difference of gradients along the segment is needed. This is the truth that `glass_density`
estimates; it takes far longer, and is for small networks.
"""

import itertools
from typing import Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from potentials import MLP, SupervisedPotential

from ..core.trees import Params
from ..core.validation import positive

# A multiple of so many jumps is found at once: few numbers of them, and of compilations.
_AT_ONCE: Final = 64


class Crossings(NamedTuple):
    """The crossings of a segment, in no order.

    Attributes:
        times: t of each, (crossings,).
        examples: The index of the example whose unit switches, (crossings,).
        before: Which units are on before it, an array (crossings, units) for each hidden layer.
        after: Which are on after it.

    Example:
        >>> from flows.glass.crossings import Crossings
        >>> Crossings._fields
        ('times', 'examples', 'before', 'after')
    """

    times: Float[np.ndarray, " crossings"]
    examples: Int[np.ndarray, " crossings"]
    before: tuple[Bool[np.ndarray, "crossings _"], ...]
    after: tuple[Bool[np.ndarray, "crossings _"], ...]


def crossings(
    potential: SupervisedPotential, params: Params, probe: Params, length: float
) -> Crossings:
    """Find the crossings of the segment from w - length z to w + length z.

    Args:
        potential: The loss of an `MLP` with ReLU and biases.
        params: w, the weights of this MLP.
        probe: z, like `params`.
        length: Half of the segment's length over |z|, above 0.

    Raises:
        ValueError: If `length` is not above 0, or the model is no such MLP.

    Example:
        A unit that is on where 0.3 + t > 0, for the example 0:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flows.glass.crossings import crossings
        >>> from potentials import MLP, SupervisedPotential, mse
        >>> network = MLP((1, 1, 1), "relu", key=jax.random.key(0))
        >>> loss = SupervisedPotential(network, jnp.zeros((1, 1)), jnp.ones((1, 1)), mse)
        >>> w = jax.tree.map(lambda x: 0.3 * jnp.ones_like(x), loss.params)
        >>> found = crossings(loss, w, jax.tree.map(jnp.ones_like, w), 1.0)
        >>> found.times.tolist(), found.before[0].tolist(), found.after[0].tolist()
        ([-0.3], [[False]], [[True]])
    """
    length = float(positive("length", length))
    _check(potential)
    layers, directions = (
        [(np.asarray(one.weight, float), np.asarray(one.bias, float)) for one in tree.layers]
        for tree in (params, probe)
    )
    hidden = list(zip(layers, directions, strict=True))[:-1]
    found = []
    for index, example in enumerate(np.asarray(potential.inputs, float)):
        pieces = [(-length, length, example.reshape(1, -1), ())]
        for (weight, bias), (dw, db) in hidden:
            split = []
            for start, end, signal, masks in pieces:
                inputs = np.zeros((len(signal) + 1, len(bias)))
                inputs[:-1] += signal @ weight.T
                inputs[1:] += signal @ dw.T
                inputs[0] += bias
                inputs[1] += db
                cuts = [start, *_roots(inputs, start, end), end]
                for a, b in itertools.pairwise(cuts):
                    on = _values(inputs, 0.5 * (a + b)) > 0
                    split.append((a, b, inputs * on, (*masks, on)))
            pieces = split
        for (_, at, _, before), (_, _, _, after) in itertools.pairwise(pieces):
            found.append((at, index, before, after))
    if not found:
        nothing = tuple(np.zeros((0, len(bias)), bool) for (_, bias), _ in hidden)
        return Crossings(np.zeros(0), np.zeros(0, int), nothing, nothing)
    times, examples, before, after = zip(*found, strict=True)
    masks = [tuple(np.array(one) for one in zip(*side, strict=True)) for side in (before, after)]
    return Crossings(np.array(times), np.array(examples), *masks)


def jump_density(
    potential: SupervisedPotential, params: Params, probe: Params, length: float
) -> Params:
    """Return the sum of the squared jumps of the gradient per length of t.

    Along a probe of random signs it is what `glass_density` estimates where jumps do not correlate.

    Args:
        potential: As `crossings` has it.
        params: w.
        probe: z.
        length: As `crossings` has it.

    Returns:
        The density of each parameter, a pytree like `params`, loss^2 / parameter^3.

    Raises:
        ValueError: As `crossings` does.

    Example:
        With 2 relu(b) for the network and 1 for its target, the derivative of the loss by b jumps
        by -2 where b passes 0, once in a length of 2:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jax.flatten_util import ravel_pytree
        >>> from flows.glass.crossings import jump_density
        >>> from potentials import MLP, SupervisedPotential, mse
        >>> network = MLP((1, 1, 1), "relu", key=jax.random.key(0))
        >>> loss = SupervisedPotential(network, jnp.zeros((1, 1)), jnp.ones((1, 1)), mse)
        >>> _, unravel = ravel_pytree(loss.params)
        >>> w, z = unravel(jnp.asarray([0.0, 0.0, 2.0, 0.0])), unravel(jnp.eye(4)[1])
        >>> ravel_pytree(jump_density(loss, w, z, 1.0))[0].tolist()
        [0.0, 2.0, 0.0, 0.0]
    """
    found = crossings(potential, params, probe, length)

    # Those that are filled in have all units off on both sides, and no jump.
    missing = -len(found.times) % _AT_ONCE
    times, examples = np.pad(found.times, (0, missing)), np.pad(found.examples, (0, missing))
    before, after = (
        tuple(jnp.asarray(np.pad(one, ((0, missing), (0, 0))), float) for one in side)
        for side in (found.before, found.after)
    )
    squares = eqx.filter_jit(_squared_jumps)(
        potential, params, probe, jnp.asarray(times), jnp.asarray(examples), before, after
    )
    return jax.tree.map(lambda x: x / (2 * length), squares)


def _squared_jumps(
    potential: SupervisedPotential,
    params: Params,
    probe: Params,
    times: Float[Array, " crossings"],
    examples: Int[Array, " crossings"],
    before: tuple[Float[Array, "crossings _"], ...],
    after: tuple[Float[Array, "crossings _"], ...],
) -> Params:
    """Return the sum of the squared jumps, like `params`."""

    def loss(weights, masks, example, target):
        network = potential.model(weights)
        assert isinstance(network, MLP)
        signal = example.reshape(-1)
        for layer, on in zip(network.layers[:-1], masks, strict=True):
            signal = on * layer(signal)
        return potential.criterion(network.layers[-1](signal), target) / len(potential.inputs)

    def jump(t, index, before, after):
        here = jax.tree.map(lambda w, z: w + t * z, params, probe)
        slopes = [
            jax.grad(loss)(here, masks, potential.inputs[index], potential.targets[index])
            for masks in (before, after)
        ]
        return jax.tree.map(lambda x, y: jnp.square(y - x), *slopes)

    squares = jax.vmap(jump)(times, examples, before, after)
    return jax.tree.map(lambda x: jnp.sum(x, 0), squares)


def _check(potential: SupervisedPotential) -> None:
    """Check that the boundaries are those of an MLP, and that it has all that is read of it.

    Raises:
        ValueError: If they are not.
    """
    network = potential.model(potential.params)
    if not isinstance(network, MLP):
        found = f"one of {type(network).__name__}"
    elif network.activation is not jax.nn.relu:
        found = f"the activation {getattr(network.activation, '__name__', network.activation)}"
    elif not network.bias:
        found = "bias=False"
    else:
        return
    raise ValueError(
        f'potential must be the loss of an MLP with the activation "relu" and biases; got {found}.'
    )


def _values(polynomials: np.ndarray, t: float) -> np.ndarray:
    """Return the values at t of polynomials, (degree + 1, units)."""
    return t ** np.arange(len(polynomials)) @ polynomials


def _roots(polynomials: np.ndarray, start: float, end: float) -> list[float]:
    """Return the roots of polynomials inside of an interval, in ascending order."""
    if len(polynomials) == 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            roots = -polynomials[0] / polynomials[1]
    else:
        found = [np.roots(column[::-1]) for column in polynomials.T]
        roots = np.concatenate([r.real[np.abs(r.imag) < 1e-12] for r in found])
    return sorted(roots[(roots > start) & (roots < end)])
