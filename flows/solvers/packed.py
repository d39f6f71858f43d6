"""Solvers that are made for a flow, with its state and their own as a vector.

diffrax selects, checks and carries the state of the flow and of the solver leaf by leaf, and XLA
compiles each of these operations for itself: as a vector the same state takes a few of them.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, ArrayLike, Bool, PyTree

from ..core.arrays import BoolScalarLike, RealScalarLike
from ..core.compilation import traced_once
from ..core.potential import Potential
from ..core.results import RESULTS
from ..core.trees import Tree
from .controllers import GuardedController
from .projection import AbstractFlowSolver

Vectors = tuple[Array, ...]
"""The floating-point leaves of a tree as a vector for each of their dtypes, and then all others."""

# Larger states than this many numbers are copied for longer than their operations are compiled.
_LARGE = 2**20


class Packing(eqx.Module):
    """How a tree of arrays is made into vectors, and back.

    Attributes:
        structure: Of the tree.
        shapes: Of its leaves.
        dtypes: Of its leaves.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.solvers.packed import Packing
        >>> tree = {"a": jnp.ones((2, 2)), "b": jnp.asarray(3), "c": jnp.zeros(1)}
        >>> packing = Packing.of(tree)
        >>> packing.pack(tree)
        (Array([1., 1., 1., 1., 0.], dtype=float64), Array(3, dtype=int64))
        >>> packing.unpack(packing.pack(tree))["a"].shape
        (2, 2)
    """

    # JAX exports the type as a variable.
    structure: jax.tree_util.PyTreeDef = eqx.field(  # pyright: ignore[reportInvalidTypeForm]
        static=True
    )
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    dtypes: tuple[np.dtype, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, tree: PyTree[Array | jax.ShapeDtypeStruct]) -> "Packing":
        """Return the packing of trees with the shapes and dtypes of this one."""
        leaves, structure = jax.tree.flatten(tree)
        shapes, dtypes = tuple(x.shape for x in leaves), tuple(x.dtype for x in leaves)
        return cls(structure, shapes, dtypes)

    @property
    def _kinds(self) -> tuple[np.dtype, ...]:
        """The dtypes of the vectors, in the order of their first leaves."""
        floating = (d for d in self.dtypes if jnp.issubdtype(d, jnp.floating))
        return tuple(dict.fromkeys(floating))

    def pack(self, tree: PyTree[ArrayLike]) -> Vectors:
        """Return the vectors of a tree."""
        kinds, leaves = self._kinds, jax.tree.leaves(tree)
        parts: dict[np.dtype, list[Array]] = {kind: [] for kind in kinds}
        others = []
        for leaf, dtype in zip(leaves, self.dtypes, strict=True):
            if dtype in parts:
                parts[dtype].append(jnp.ravel(leaf))
            else:
                others.append(jnp.asarray(leaf))
        return (*(jnp.concatenate(parts[kind]) for kind in kinds), *others)

    def unpack(self, vectors: Vectors) -> Any:
        """Return the tree of some vectors."""
        kinds = self._kinds
        packed, others = dict(zip(kinds, vectors, strict=False)), iter(vectors[len(kinds) :])
        start = dict.fromkeys(kinds, 0)
        leaves = []
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            if dtype in packed:
                end = start[dtype] + math.prod(shape)
                leaves.append(packed[dtype][start[dtype] : end].reshape(shape))
                start[dtype] = end
            else:
                leaves.append(next(others))
        return jax.tree.unflatten(self.structure, leaves)


def select(condition: Bool[Array, ""], one: Tree, other: Tree) -> Tree:
    """Return one tree where a condition holds, and another of the same kind elsewhere.

    Small trees are chosen as vectors, not leaf by leaf.
    """
    if is_large(one):
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
    packing = Packing.of(one)
    both = zip(packing.pack(one), packing.pack(other), strict=True)
    return packing.unpack(tuple(jnp.where(condition, a, b) for a, b in both))


def is_large(tree: PyTree[Array | jax.ShapeDtypeStruct]) -> bool:
    """Return True if vectors of a tree would be copied for longer than they save."""
    return sum(x.size for x in jax.tree.leaves(tree)) > _LARGE


class _UnpackedNorm(eqx.Module):
    """A norm of states, of one that is packed."""

    norm: Callable[[PyTree[Array]], RealScalarLike] = eqx.field(static=True)
    packing: Packing = eqx.field(static=True)

    def __call__(self, error: Vectors) -> RealScalarLike:
        return self.norm(self.packing.unpack(error))


class PackedInterpolation(diffrax.AbstractLocalInterpolation):
    """The interpolation of a packed solver.

    Attributes:
        t0: Where the step starts.
        t1: Where it ends.
        inner: The inner solver's interpolation between the two.
        packing: Of the flow's state.
    """

    t0: RealScalarLike
    t1: RealScalarLike
    inner: diffrax.AbstractLocalInterpolation
    packing: Packing

    @traced_once
    def evaluate(
        self, t0: RealScalarLike, t1: RealScalarLike | None = None, left: bool = True
    ) -> Vectors:
        """Return the state at `t0`, or how much it changes from there to `t1`."""
        return self.packing.pack(self.inner.evaluate(t0, t1, left))


def _interpolation(
    interpolation: Callable[..., diffrax.AbstractLocalInterpolation],
    packing: Packing,
    *,
    t0: RealScalarLike,
    t1: RealScalarLike,
    **inner: PyTree[Array],
) -> PackedInterpolation:
    return PackedInterpolation(t0, t1, interpolation(t0=t0, t1=t1, **inner), packing)


class PackedSolver(diffrax.AbstractWrappedSolver):
    """A solver that is made for a flow, on packed states of the flow and of its own.

    Attributes:
        solver: The solver that takes the steps.
        state: Packing of the flow's state.
        own: Packing of the solver's.
    """

    solver: AbstractFlowSolver
    state: Packing
    own: Packing

    @property
    def term_structure(self) -> Any:
        """The inner solver's."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The inner solver's, packed."""
        return partial(_interpolation, self.solver.interpolation_cls, self.state)

    def order(self, terms: diffrax.AbstractTerm) -> int | None:
        """Return the inner solver's order."""
        return self.solver.order(terms)

    def error_order(self, terms: diffrax.AbstractTerm) -> Any:
        """Return the order of the inner solver's error estimate."""
        return self.solver.error_order(terms)

    def init(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: Vectors,
        args: Potential,
    ) -> Vectors:
        """Initialise the inner solver."""
        return self.own.pack(self.solver.init(terms, t0, t1, self.state.unpack(y0), args))

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0: RealScalarLike,
        t1: RealScalarLike,
        y0: Vectors,
        args: Potential,
        solver_state: Vectors,
        made_jump: BoolScalarLike,
    ) -> tuple[Vectors, Vectors | None, Any, Vectors, RESULTS]:
        """Take a step of the inner solver."""
        y1, error, dense_info, own, result = self.solver.step(
            terms, t0, t1, self.state.unpack(y0), args, self.own.unpack(solver_state), made_jump
        )
        error = None if error is None else self.state.pack(error)
        return self.state.pack(y1), error, dense_info, self.own.pack(own), result

    def func(
        self, terms: diffrax.AbstractTerm, t0: RealScalarLike, y0: Vectors, args: Potential
    ) -> Vectors:
        """Return the inner solver's evaluation of the vector field."""
        return self.state.pack(self.solver.func(terms, t0, self.state.unpack(y0), args))


def packed(
    solver: AbstractFlowSolver,
    controller: diffrax.AbstractStepSizeController,
    flow_state: PyTree[Array],
    solver_state: PyTree[Array],
) -> tuple[diffrax.AbstractSolver, diffrax.AbstractStepSizeController]:
    """Return a solver and its controller for packed states; unchanged where that does not pay.

    Args:
        solver: The solver.
        controller: How its steps adapt.
        flow_state: What it integrates.
        solver_state: The state of the solver.
    """
    if is_large((flow_state, solver_state)):
        return solver, controller
    state, own = Packing.of(flow_state), Packing.of(solver_state)
    if isinstance(controller, GuardedController):
        inner = controller.controller
        # Another one may look at the parts of a state, which would be taken apart again for it; a
        # subclass of the user's is another one.
        if type(inner) is not diffrax.PIDController:
            return solver, controller
        # The root mean square does not see the structure; others may.
        if inner.norm is not optimistix.rms_norm:
            inner = dataclasses.replace(inner, norm=_UnpackedNorm(inner.norm, state))
        controller = GuardedController(inner, controller.smallest)
    return PackedSolver(solver, state, own), controller
