"""The sharpness of parts of the parameters, measured along a trajectory."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..core.cost import Cost
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import positive_integer, proper_fraction
from ..core.variables import SHARPNESS, Variable
from ..curvature.eigenpairs import find_eigenpairs, starting_modes
from .base import AbstractMeasurement, Measured
from .occasional import when_due

_GROUPS: Final = {
    "group_sharpness": Variable(
        SHARPNESS,
        "largest eigenvalue of the Hessian's diagonal block of each group of parameters",
        ("group",),
    )
}


def _patterns(groups: Any) -> tuple[str, ...] | None:
    if groups is None:
        return None
    given = () if isinstance(groups, str) or not isinstance(groups, Sequence) else tuple(groups)
    if not given or not all(isinstance(pattern, str) for pattern in given):
        raise ValueError(
            "groups must be patterns of paths, such as ('layers.0.*', 'layers.1.*'), or None for "
            f"one group for each array; got {groups!r}."
        )
    return given


class _Block(eqx.Module):
    """A loss as a function of some leaves of the parameters, the others fixed."""

    potential: Potential
    params: Params
    places: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, block: list[Array]) -> Float[Array, ""]:
        leaves, structure = jax.tree.flatten(self.params)
        for place, leaf in zip(self.places, block, strict=True):
            leaves[place] = leaf
        return self.potential(jax.tree.unflatten(structure, leaves))


class GroupSharpness(AbstractMeasurement):
    """The largest eigenvalue of the Hessian's diagonal block of each group of parameters.

    It is the sharpness of the loss as a function of that group, the others fixed, and at most the
    sharpness. A group is an array of the parameters, or all arrays whose path fits a pattern: keys
    with dots between, as "layers.0.weight" of a network of equinox. Groups may overlap. Each is an
    eigenproblem of its own, which is compiled by itself.

    Attributes:
        groups: Patterns of paths, as in "layers.*.weight", of which each makes a group; None, the
            default, for one group for each array, in the order of `jax.tree.leaves`.
        every: Measure at every n-th saved step; the values are nan in between.
        tolerance: Residual at which an eigenpair is accepted, relative to the largest eigenvalue.
        max_products: Bound on the products for a group at one save, beyond that with the
            eigenvector of the measurement before, from which it starts.

    Raises:
        ValueError: If an argument is not of its kind; when it is measured, if a pattern fits no
            array of the parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GroupSharpness, measure
        >>> loss = lambda p: jnp.sum(p["a"] ** 2) + 3 * p["b"] ** 2 + p["a"][0] * p["b"]
        >>> path = {"a": jnp.zeros((1, 2)), "b": jnp.zeros(1)}
        >>> values, _ = measure(GroupSharpness(), loss, path)
        >>> values["group_sharpness"].tolist()
        [[2.0, 6.0]]
    """

    structural_fields: ClassVar[tuple[str, ...]] = ("groups",)

    groups: tuple[str, ...] | None = eqx.field(static=True, default=None, converter=_patterns)
    every: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "every"))
    tolerance: float = eqx.field(
        static=True, default=1e-3, converter=partial(proper_fraction, "tolerance")
    )
    max_products: int = eqx.field(
        static=True, default=300, converter=partial(positive_integer, "max_products")
    )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """`group_sharpness`."""
        return _GROUPS

    def names(self, params: Params) -> tuple[str, ...]:
        """Return the names of the groups: their patterns, or the path of each array.

        Args:
            params: The parameters, of which only the structure counts.
        """
        if self.groups is None:
            # Parameters that are one array have no path.
            return tuple(path or "params" for path in _paths(params))
        return self.groups

    def init(self, potential: Potential, params: Params) -> list[Array]:
        """Return a random vector for each group; the first measurement replaces them."""
        del potential
        return [starting_modes(_block(params, places), 1) for places in self._places(params)]

    def measure(
        self, potential: Potential, params: Params, state: list[Array], index: Int[Array, ""]
    ) -> Measured:
        """Return `group_sharpness`."""

        def measured(state: list[Array]) -> Measured:
            found = [
                find_eigenpairs(
                    _Block(potential, params, places),
                    _block(params, places),
                    start=start,
                    tolerance=self.tolerance,
                    max_products=self.max_products,
                )
                for places, start in zip(self._places(params), state, strict=True)
            ]
            sharpness = jnp.concatenate([pairs.values for pairs in found])
            cost = Cost(gradients=len(found), hvps=sum(pairs.hvps for pairs in found))
            return {"group_sharpness": sharpness}, [pairs.vectors for pairs in found], cost

        return when_due(measured, self.every, params, state, index)

    def _places(self, params: Params) -> list[tuple[int, ...]]:
        """Return which leaves make each group.

        Raises:
            ValueError: If a pattern fits none.
        """
        paths = _paths(params)
        if self.groups is None:
            return [(place,) for place in range(len(paths))]
        found = []
        for pattern in self.groups:
            places = tuple(i for i, path in enumerate(paths) if fnmatchcase(path, pattern))
            if not places:
                raise ValueError(
                    f"groups must be patterns that fit arrays of the parameters; {pattern!r} fits "
                    f"none of {', '.join(map(repr, paths))}."
                )
            found.append(places)
        return found


def _paths(params: Params) -> tuple[str, ...]:
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    )


def _block(params: Params, places: tuple[int, ...]) -> list[Array]:
    leaves = jax.tree.leaves(params)
    return [leaves[place] for place in places]
