"""A loss whose captured arrays are arguments, so that a compiled program never keeps old ones.

JAX finds a compiled program by the function's identity, and what the function closes over is part
of the program. A notebook replaces an array that its loss reads, or an object's attribute, and the
program still holds what was there before. Here a loss is traced at each call of the package. What
the trace captured becomes an argument, and programs are found by what was traced: they are shared
where only the values of captured arrays differ, and by functions that do the same.
"""

import dataclasses
import functools
import random
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun
from jaxtyping import Array, Float, PyTree

from .potential import Potential
from .trees import Params, is_traced
from .validation import check_loss_value, check_potential

# How many traces are kept to be found again; a program is compiled anew for those dropped.
_MOST_TRACES: Final = 256

# Functions of these packages capture nothing that changes.
_OWN_PACKAGES: Final = {"equinox", "flows", "jax", "jaxlib", "optax", "potentials"}

_FUNCTIONS: Final = (
    functools.partial,
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
)

_CUSTOM_RULES: Final = {"custom_jvp_call", "custom_vjp_call"}


class _Trace:
    """What a loss does: equal traces are one object, so that its identity finds programs.

    Attributes:
        jaxpr: The loss as a jaxpr, its captured arrays as constants.
        structure: That of the parameters, and of what stands beside them in the loss's own pytree.
        derivatives: For a loss with derivatives of its own the jaxpr of a Hessian-vector product
            and its constants, with numbers for those that the loss captures too. None for others,
            whose jaxpr says it all.
    """

    def __init__(self, closed: ClosedJaxpr, structure: Any, derivatives: ClosedJaxpr | None):
        self.jaxpr, self.structure, self.derivatives = closed.jaxpr, structure, None
        if derivatives is not None:
            places = {id(constant): place for place, constant in enumerate(closed.consts)}
            constants = [places.get(id(constant), constant) for constant in derivatives.consts]
            self.derivatives = derivatives.jaxpr, constants

    def same(self, other: "_Trace") -> bool:
        """Return True if both compute the same from arrays of the same shapes."""
        return (
            self.structure == other.structure
            and _same_jaxprs(self.jaxpr, other.jaxpr)
            and _same(self.derivatives, other.derivatives)
        )


class _Given:
    """An object that a measurement may ask for its attributes; equal to itself only."""

    def __init__(self, potential: object):
        self.potential = potential

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and other.potential is self.potential

    def __hash__(self) -> int:
        return id(self.potential)


class CapturedPotential(eqx.Module):
    """A loss with the arrays that it captures, each a leaf.

    Attributes:
        trace: What it computes.
        captured: The arrays that it closes over.
        potential: The loss as it was given if it is an equinox module; None for others.
        given: The loss as it was given if it is an object of another class; None for functions.
    """

    trace: _Trace = eqx.field(static=True)
    captured: list[Array]
    potential: eqx.Module | None
    given: _Given | None = eqx.field(static=True)

    def __call__(self, params: Params) -> Float[Array, ""]:
        """Return the loss."""
        leaves, structure = jax.tree.flatten((eqx.filter(self.potential, eqx.is_array), params))
        if structure != self.trace.structure:
            raise ValueError(
                f"params must have the structure that the loss was traced for, "
                f"{self.trace.structure}; got {structure}."
            )
        return _value(self.trace, self.captured, leaves)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the loss as it was given."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.potential if self.given is None else self.given.potential, name)


class CapturedFunction(eqx.Module):
    """A function of arrays and modules with the arrays that it captures, each a leaf.

    Attributes:
        trace: What it computes.
        captured: The arrays that it closes over.
        function: The function as it was given if it is an equinox module; None for others.
    """

    trace: _Trace = eqx.field(static=True)
    captured: list[Array]
    function: eqx.Module | None

    def __call__(self, *arguments: PyTree) -> Array:
        """Return the function's value, for arguments like those that it was traced for."""
        arrays = eqx.filter((self.function, arguments), eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)
        if structure != self.trace.structure:
            raise ValueError(
                f"the arguments must have the structure that the function was traced for, "
                f"{self.trace.structure}; got {structure}."
            )
        return _value(self.trace, self.captured, leaves)


def _value(trace: _Trace, captured: list[Array], leaves: list[Array]) -> Array:
    (value,) = jaxpr_as_fun(ClosedJaxpr(trace.jaxpr, captured))(*leaves)
    # Of a constant function JAX gives a number that is no array.
    return jnp.asarray(value, trace.jaxpr.outvars[0].aval.dtype)


_traces: OrderedDict[Any, list[_Trace]] = OrderedDict()


def captured(potential: Potential, params: PyTree) -> Potential:
    """Return a loss as it is now, with the arrays that it captures as arguments.

    Args:
        potential: The loss: any callable. One that captures nothing, such as a potential of this
            package, is returned as it is.
        params: The parameters, or their shapes and dtypes.

    Raises:
        ValueError: If it cannot be called, or gives anything but a float scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, iterate
        >>> scale = jnp.asarray(1.0)
        >>> loss = lambda w: scale * jnp.sum(w**2)
        >>> descent, start = GradientDescent(0.1), jnp.ones(2)
        >>> float(iterate(descent, loss, start, 1).observables["loss"][0])
        2.0
        >>> scale = jnp.asarray(11.0)
        >>> float(iterate(descent, loss, start, 1).observables["loss"][0])
        22.0
    """
    if not callable(potential) or isinstance(potential, CapturedPotential) or _is_own(potential):
        check_potential(potential, params)
        return potential
    module = potential if isinstance(potential, eqx.Module) else None
    arrays, fixed = eqx.partition(module, eqx.is_array)

    def loss(arrays: PyTree, params: Params) -> Any:
        function: Potential = potential if module is None else eqx.combine(arrays, fixed)  # pyright: ignore[reportAssignmentType]
        return function(params)

    before = _random_states()
    closed, value, other = eqx.filter_make_jaxpr(loss)(arrays, params)
    # Some tools draw from that state for themselves; numbers in the loss differ at the next trace.
    if _random_states() != before and _draws(
        closed, eqx.filter_make_jaxpr(loss)(arrays, params)[0]
    ):
        warnings.warn(
            "the loss draws from the random state of numpy or Python while it is traced: the "
            "numbers are drawn once for each run, not at each step. Draw them before, or use "
            "jax.random with a key.",
            stacklevel=3,
        )
    check_loss_value(eqx.combine(value, other))
    structure = jax.tree.structure((arrays, params))
    derivatives: ClosedJaxpr | None = None
    if any(e.primitive.name in _CUSTOM_RULES for e in _equations(closed.jaxpr)):
        derivatives = _derivatives(loss, arrays, params)
    trace = _canonical(_Trace(closed, structure, derivatives))
    plain = (
        module is not None or isinstance(potential, _FUNCTIONS) or hasattr(potential, "__wrapped__")
    )
    given = None if plain else _Given(potential)
    return CapturedPotential(trace, [jnp.asarray(c) for c in closed.consts], module, given)


def captured_function(function: Callable[..., Any], *arguments: PyTree) -> Callable[..., Any]:
    """Return a function as it is now, with the arrays that it captures as arguments.

    Args:
        function: Any callable. A module of this package that holds no function of its user is
            returned as it is, and so is a function that returns anything but one array or number.
        arguments: What it will be called with, or its shapes and dtypes; it is traced for the last.
    """
    if isinstance(function, CapturedFunction) or _is_own(function):
        return function
    given = function
    module = function if isinstance(function, eqx.Module) else None
    *before, last = arguments
    arrays, fixed = eqx.partition((module, tuple(before)), eqx.is_array)

    def value(arrays: PyTree, last: PyTree) -> Any:
        own, others = eqx.combine(arrays, fixed)
        call: Callable[..., Any] = given if own is None else own  # pyright: ignore[reportAssignmentType]
        returned = call(*others, last)
        return jnp.asarray(returned) if eqx.is_array_like(returned) else returned

    closed, like, _ = eqx.filter_make_jaxpr(value)(arrays, last)
    if not isinstance(like, jax.ShapeDtypeStruct):
        return given
    derivatives: ClosedJaxpr | None = None
    has_derivatives = like.shape == () and jnp.issubdtype(like.dtype, jnp.floating)
    if has_derivatives and any(e.primitive.name in _CUSTOM_RULES for e in _equations(closed.jaxpr)):
        derivatives = _rules(value, arrays, last)
    own, others = arrays
    trace = _Trace(closed, jax.tree.structure((own, (*others, last))), derivatives)
    return CapturedFunction(_canonical(trace), [jnp.asarray(c) for c in closed.consts], module)


def _rules(value: Callable[..., Any], arrays: PyTree, last: PyTree) -> ClosedJaxpr | None:
    """Return a jaxpr in which the custom rules of a function are written out, those that matter.

    A function with a loop may have derivatives in forward mode only, one with a callback none.
    """

    def forward(last: PyTree, tangent: PyTree) -> Any:
        return jax.jvp(lambda x: value(arrays, x), (last,), (tangent,))

    for trace in (
        lambda: _derivatives(value, arrays, last),
        lambda: eqx.filter_make_jaxpr(forward)(last, last)[0],
    ):
        try:
            return trace()
        except Exception:
            # JAX raises errors of many classes, and a function of the user's any. A run that is
            # differentiated meets them again.
            continue
    return None


def _is_own(potential: Callable[..., Any]) -> bool:
    """Return True for a module of this package in which no function of its user is."""
    if not isinstance(potential, eqx.Module):
        return False
    return all(_package(part) in _OWN_PACKAGES for part in _callables(potential))


def _package(part: object) -> str:
    of = part if hasattr(part, "__module__") else type(part)
    return str(getattr(of, "__module__", "")).partition(".")[0]


def _callables(tree: PyTree) -> Iterator[object]:
    """Yield the modules and functions in a pytree, static fields included."""
    for part in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, eqx.Module)):
        if isinstance(part, eqx.Module):
            yield type(part)
            for field in dataclasses.fields(part):
                yield from _callables(getattr(part, field.name, None))
        elif callable(part) and not eqx.is_array(part):
            yield part


def _draws(one: ClosedJaxpr, other: ClosedJaxpr) -> bool:
    """Return True if two traces of one function differ."""
    return not (_same_jaxprs(one.jaxpr, other.jaxpr) and _same(one.consts, other.consts))


def _random_states() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state()
    return random.getstate(), np.asarray(keys).tobytes(), *rest


def _derivatives(loss: Callable[..., Any], arrays: PyTree, params: PyTree) -> ClosedJaxpr:
    """Return the jaxpr of a Hessian-vector product, in which custom rules are written out.

    That of the gradient where the loss allows no Hessian-vector product.
    """

    def gradient(params: Params) -> Params:
        return jax.grad(lambda w: loss(arrays, w))(params)

    def product(params: Params, vector: Params) -> Any:
        return jax.jvp(gradient, (params,), (vector,))

    try:
        return eqx.filter_make_jaxpr(product)(params, params)[0]
    except (TypeError, NotImplementedError):
        # JAX's own errors of a rule that cannot be differentiated again.
        return eqx.filter_make_jaxpr(gradient)(params)[0]


def _canonical(trace: _Trace) -> _Trace:
    """Return the first trace that computes the same as this one."""
    jaxpr = trace.jaxpr
    primitives = tuple(equation.primitive.name for equation in jaxpr.eqns)
    shapes = tuple(str(variable.aval) for variable in (*jaxpr.constvars, *jaxpr.invars))
    key = (primitives, shapes)
    known = _traces.setdefault(key, [])
    _traces.move_to_end(key)
    for earlier in known:
        if earlier.same(trace):
            return earlier
    known.append(trace)
    while sum(map(len, _traces.values())) > _MOST_TRACES:
        _, oldest = next(iter(_traces.items()))
        oldest.pop(0)
        if not oldest:
            _traces.popitem(last=False)
    return trace


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yield the equations of a jaxpr and of those within."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            if isinstance(value, ClosedJaxpr):
                yield from _equations(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from _equations(value)


def _same_jaxprs(one: Jaxpr, other: Jaxpr) -> bool:
    """Return True if both do the same operations on the same variables."""
    partner: dict[Var, Var] = {}

    def bind(mine: list[Var], theirs: list[Var]) -> bool:
        if [v.aval for v in mine] != [v.aval for v in theirs]:
            return False
        partner.update(zip(mine, theirs, strict=True))
        return True

    def same_atoms(mine: list[Any], theirs: list[Any]) -> bool:
        return len(mine) == len(theirs) and all(map(same_atom, mine, theirs))

    def same_atom(mine: Any, theirs: Any) -> bool:
        if isinstance(mine, Literal) or isinstance(theirs, Literal):
            return (
                isinstance(mine, Literal)
                and isinstance(theirs, Literal)
                and mine.aval == theirs.aval
                and _same_bytes(mine.val, theirs.val)
            )
        return partner.get(mine) is theirs

    if not (bind(one.constvars, other.constvars) and bind(one.invars, other.invars)):
        return False
    if len(one.eqns) != len(other.eqns):
        return False
    for mine, theirs in zip(one.eqns, other.eqns, strict=True):
        if mine.primitive is not theirs.primitive or mine.effects != theirs.effects:
            return False
        if not same_atoms(mine.invars, theirs.invars) or not bind(mine.outvars, theirs.outvars):
            return False
        left, right = mine.params, theirs.params
        if mine.primitive.name in _CUSTOM_RULES:
            # The rules themselves are new functions in each trace: `derivatives` has what they do.
            left, right = _without_rules(left), _without_rules(right)
        if not _same(left, right):
            return False
    return same_atoms(one.outvars, other.outvars)


def _without_rules(params: dict[str, Any]) -> dict[str, Any]:
    return {k: x for k, x in params.items() if not (callable(x) or hasattr(x, "call_wrapped"))}


def _same(one: Any, other: Any) -> bool:
    """Return True if two parameters of an operation are known to be the same."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, ClosedJaxpr):
        return _same_jaxprs(one.jaxpr, other.jaxpr) and _same(one.consts, other.consts)
    if isinstance(one, Jaxpr):
        return _same_jaxprs(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if eqx.is_array_like(one):
        return not is_traced((one, other)) and _same_bytes(one, other)
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False


def _same_bytes(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    alike = (one.dtype, one.shape) == (other.dtype, other.shape)
    return alike and one.tobytes() == other.tobytes()
