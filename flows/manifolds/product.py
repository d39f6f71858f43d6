"""Products of manifolds: which leaf of the parameters lives where."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core.trees import Params, all_finite, is_traced
from ..core.warning import warn_caller
from .euclidean import Euclidean
from .hyperboloid import Hyperboloid
from .manifold import AbstractManifold, Leaf, Retraction, Transport
from .spheres import Oblique, Sphere
from .stiefel import Stiefel

NAMED: Final[Mapping[str, AbstractManifold]] = {
    "euclidean": Euclidean(),
    "sphere": Sphere(),
    "oblique_rows": Oblique("rows"),
    "oblique_columns": Oblique("columns"),
    "oblique_kernels": Oblique("kernels"),
    "stiefel_columns": Stiefel("columns"),
    "stiefel_rows": Stiefel("rows"),
    "hyperboloid": Hyperboloid(),
}
"""Manifolds by name, as a config has them."""

Filter: TypeAlias = Callable[[str, Leaf], AbstractManifold | None]
"""From the path and the array of a leaf to its manifold; None for flat space."""

_Parts: TypeAlias = tuple[tuple[str, AbstractManifold], ...] | Filter


def _parts(parts: Any) -> _Parts:
    if callable(parts):
        return cast(Filter, parts)
    # Pairs, as they are kept, are what a dictionary becomes that has to be hashable.
    pairs = isinstance(parts, list | tuple) and all(len(pair) == 2 for pair in parts)
    given = dict(parts) if pairs else parts
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            "parts must be a dictionary from patterns of paths to manifolds, such as "
            f'{{"layers.*.weight": Stiefel()}}, or a function of path and leaf; got {parts!r}.'
        )
    found: dict[Any, Any] = {
        pattern: NAMED.get(m, m) if isinstance(m, str) else m for pattern, m in given.items()
    }
    for pattern, manifold in found.items():
        if not isinstance(pattern, str) or not isinstance(manifold, AbstractManifold):
            raise ValueError(
                "parts must have strings for keys and manifolds such as Sphere() for values, or "
                f"their names, {_names()}; got {pattern!r}: {manifold!r}."
            )
    return tuple(found.items())


def _names() -> str:
    return ", ".join(f'"{name}"' for name in NAMED)


class Product(eqx.Module):
    """A product of manifolds over the leaves of parameters, of any structure.

    The metric is the sum of those of the leaves. The path of a leaf is its keys with dots between:
    "weight" of {"weight": w}, "layers.0.weight" of a network of equinox, "" of a single array.

    Attributes:
        parts: A dictionary from patterns of paths, as in "layers.*.weight", to manifolds or their
            names (`NAMED`), of which the first that fits holds; or a function `parts(path, leaf)`
            that returns a manifold, or None. Leaves that are left out live in flat space.

    Raises:
        ValueError: If `parts` is neither. When it meets parameters, if a pattern fits no leaf, or
            a leaf does not have the shape of its manifold's points.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import Oblique, Product, Sphere
        >>> product = Product({"w*": Oblique(), "v": Sphere()})
        >>> params = {"w1": jnp.eye(2), "v": jnp.asarray([0.6, 0.8]), "bias": jnp.ones(3)}
        >>> {path: type(manifold).__name__ for path, manifold in product.assigned(params).items()}
        {'bias': 'Euclidean', 'v': 'Sphere', 'w1': 'Oblique'}
    """

    parts: _Parts = eqx.field(static=True, converter=_parts)

    def assigned(self, params: Params) -> dict[str, AbstractManifold]:
        """Return the manifold of each leaf by its path, in the order of the leaves.

        Raises:
            ValueError: As the class says.
        """
        leaves = {
            jax.tree_util.keystr(path, simple=True, separator="."): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        if isinstance(self.parts, tuple):
            for pattern, _ in self.parts:
                if not any(fnmatchcase(path, pattern) for path in leaves):
                    known = ", ".join(map(repr, leaves))
                    raise ValueError(
                        f"parts must name leaves of the parameters; {pattern!r} fits none of "
                        f"{known}."
                    )
        found = {path: self._of(path, leaf) for path, leaf in leaves.items()}
        for path, leaf in leaves.items():
            found[path].check(leaf, f"params {path!r}" if path else "params")
        return found

    def admitted(self, params: Params) -> Params:
        """Return where a run starts: the parameters, put on the manifolds if they are off them.

        Raises:
            ValueError: If they have no nearest point there. Under a JAX transformation that is not
                known, and they are nan.
        """
        nearest = self.nearest(params)
        if is_traced(nearest):
            return nearest
        size = max(x.dtype.itemsize for x in jax.tree.leaves(params))
        tolerance = 1e-10 if size > 4 else 1e-5
        for path, manifold in self.assigned(params).items():
            where, name = f"params {path!r}" if path else "params", type(manifold).__name__
            point = dict(_leaves(params))[path]
            if not bool(all_finite(manifold.nearest(point))):
                raise ValueError(
                    f"{where} must have one nearest point on {name}, to start there; zero vectors, "
                    "dependent rows or columns of a Stiefel matrix and points below the "
                    "hyperboloid's sheet have none."
                )
            if (off := float(manifold.violation(point))) > tolerance:
                warn_caller(
                    f"{where} does not lie on {name}, whose equation it misses by {off:.2g}; the "
                    "run starts at the nearest point."
                )
        return nearest

    def nearest(self, params: Params) -> Params:
        """Return the parameters put on the manifolds; nan where that is not possible."""
        return self._map(lambda m, x: m.nearest(x), params)

    def violation(self, params: Params) -> Float[Array, ""]:
        """Return by how much the worst leaf misses its manifold's equation."""
        worst = [m.violation(x) for m, x in self._pairs(params)]
        return jnp.max(jnp.stack(worst))

    def tangent(self, point: Params, vector: Params) -> Params:
        """Return the projection of a vector onto the tangent space."""
        return self._map(lambda m, x, v: m.tangent(x, v), point, vector)

    def gradient(self, point: Params, derivative: Params) -> Params:
        """Return the Riemannian gradient, given the partial derivatives of the loss."""
        return self._map(lambda m, x, e: m.gradient(x, e), point, derivative)

    def inner(self, first: Params, second: Params) -> PyTree[Array]:
        """Return the inner product of two tangent vectors, of each group of each leaf."""
        return self._map(lambda m, u, v: m.inner(u, v), first, second)

    def squared_norm(self, vector: Params) -> Float[Array, ""]:
        """Return the squared length of a tangent vector in all leaves together."""
        groups = jax.tree.leaves(self.inner(vector, vector))
        return jnp.sum(jnp.stack([jnp.sum(group) for group in groups]))

    def retract(self, point: Params, vector: Params, name: Retraction | None) -> Params:
        """Return R_w(v); a leaf whose manifold does not know the name takes its default."""

        def moved(manifold: AbstractManifold, x: Leaf, v: Leaf) -> Leaf:
            known = manifold.retractions
            return manifold.retract(x, v, name if name in known else known[0])

        return self._map(moved, point, vector)

    def transport(self, start: Params, end: Params, vector: Params, name: Transport) -> Params:
        """Return a tangent vector at `start` carried to `end`."""
        return self._map(lambda m, x, y, v: m.transport(x, y, v, name), start, end, vector)

    def distance(self, first: Params, second: Params) -> Float[Array, ""]:
        """Return the root of the sum of the leaves' squared distances."""
        squares = [
            m.squared_distance(x, y)
            for (m, x), y in zip(self._pairs(first), jax.tree.leaves(second), strict=True)
        ]
        return jnp.sqrt(jnp.sum(jnp.stack(squares)))

    def chart(self, point: Params, coordinates: Params) -> Params:
        """Return the point with the given normal coordinates, up to terms of third order."""
        return self._map(lambda m, x, u: m.chart(x, u), point, coordinates)

    def effective(self, point: Params, coordinates: Params) -> Params:
        """Return the coordinates of `chart` without those that do nothing."""
        return self._map(lambda m, x, u: m.effective(x, u), point, coordinates)

    def _of(self, path: str, leaf: Leaf) -> AbstractManifold:
        if isinstance(self.parts, tuple):
            fitting = (m for pattern, m in self.parts if fnmatchcase(path, pattern))
            return next(fitting, Euclidean())
        found = self.parts(path, leaf)
        if found is not None and not isinstance(found, AbstractManifold):
            raise ValueError(
                f"parts must return a manifold such as Sphere(), or None; got {found!r} for the "
                f"leaf {path!r}."
            )
        return Euclidean() if found is None else found

    def _pairs(self, params: Params) -> list[tuple[AbstractManifold, Leaf]]:
        return [*zip(self.assigned(params).values(), jax.tree.leaves(params), strict=True)]

    def _map(self, function: Callable[..., Array], *trees: Params) -> PyTree[Array]:
        manifolds = self.assigned(trees[0]).values()
        structure = jax.tree.structure(trees[0])
        leaves = zip(*map(jax.tree.leaves, trees), strict=True)
        moved = [function(m, *xs) for m, xs in zip(manifolds, leaves, strict=True)]
        return jax.tree.unflatten(structure, moved)


def _leaves(params: Params) -> list[tuple[str, Leaf]]:
    """Return the leaves with their paths."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]


def on_leaves(manifold: object) -> Product:
    """Return what a user gives for a manifold as a product; one manifold holds for every leaf.

    Args:
        manifold: A manifold, its name, a `Product`, or what a `Product` is made of.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(manifold, Product):
        return manifold
    if isinstance(manifold, AbstractManifold) or (isinstance(manifold, str) and manifold in NAMED):
        return Product({"*": manifold})
    if isinstance(manifold, Mapping | list | tuple):
        return Product(manifold)
    raise ValueError(
        f"manifold must be a manifold such as Sphere(), a Product of them, or one of {_names()}; "
        f"got {manifold!r}."
    )
