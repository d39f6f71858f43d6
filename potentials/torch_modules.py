"""The loss of a PyTorch module, as a potential: torchax runs its operations in JAX.

torch and torchax are an optional extra and are imported where they are first needed.
"""

import contextlib
import copy
import functools
import importlib
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from potentials.potential import AbstractPotential
from potentials.precision import cast

_VERSIONS = "torch==2.11.0 torchax==0.0.13"

_VALUE_ASKED_FOR = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


class TorchPotential(AbstractPotential):
    """criterion(module(*inputs), targets) of a torch module; `from_torch` builds and checks it.

    Attributes:
        params: the module's weights by their names in torch, where training starts.
        buffers: the module's buffers and frozen parameters by name, constants.
        criterion_buffers: those of a criterion that is a module itself.
        inputs: the module's positional arguments.
        targets: what the criterion compares with.
        module: a copy of the module, for its code alone.
        criterion: a function of prediction and targets, written in torch.
    """

    params: dict[str, Array]
    buffers: dict[str, Array]
    criterion_buffers: dict[str, Array]
    inputs: tuple[PyTree[Array], ...]
    targets: PyTree[Array]
    module: Callable[..., Any] = eqx.field(static=True)
    criterion: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, params: dict[str, Array]) -> Float[Array, ""]:
        """Return the loss, in the dtype of `params`, which buffers and float data follow.

        Raises:
            ValueError: if `params` have other names or shapes than the module's.
        """
        _check_params(params, self.params)
        dtype = jnp.result_type(*params.values())
        buffers, criterion_buffers, inputs, targets = cast(
            (self.buffers, self.criterion_buffers, self.inputs, self.targets), dtype
        )
        with _torch_in_jax() as (call, to_torch, to_jax):
            prediction = call(self.module, {**params, **buffers}, *to_torch(inputs))
            loss = call(self.criterion, criterion_buffers, prediction, to_torch(targets))
            value = to_jax(loss)
        if not isinstance(value, Array) or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                f"criterion must return a float tensor that depends on the module's prediction, "
                f"got {type(loss).__name__}"
                + (f" of dtype {value.dtype}." if isinstance(value, Array) else ".")
            )
        if value.shape != ():
            raise ValueError(
                f"criterion must return a scalar, got shape {value.shape}; losses of torch do so "
                f"with reduction='mean' or 'sum'."
            )
        return value.astype(dtype)

    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the module's own weights: torch drew them as the module was made, not `key`."""
        return self.params


def from_torch(
    module: Callable[..., Any],
    criterion: Callable[..., Any],
    inputs: PyTree,
    targets: PyTree,
) -> TorchPotential:
    """Build the loss w -> criterion(module(inputs), targets) of a PyTorch module with weights w.

    torchax runs the module's code on JAX arrays, once for each program that is compiled; torch's
    autograd has no part in it, so that JAX differentiates the loss as often as a flow needs. The
    module is copied: what happens to it later changes nothing here. Once, torch itself computes the
    loss and its gradient as well, which have to agree.

    Args:
        module: a `torch.nn.Module` with float32 or float64 weights. Those with
            `requires_grad=False`, and buffers, are constants. Tied weights are one entry of
            `params`, under the first of their names.
        criterion: a torch function or module of (prediction, targets) that returns a scalar, such
            as `torch.nn.functional.cross_entropy`.
        inputs: the full batch, a torch tensor or an array; a tuple is the module's positional
            arguments. Float data follow the dtype of the weights.
        targets: a torch tensor, an array or a pytree of them.

    Returns:
        A potential, a function of dictionaries of arrays by the module's names; its `params` are
        the module's weights as they are now.

    Raises:
        ImportError: if torch or torchax are missing, or do not fit together.
        ValueError: if an argument has another type, the module has no weights to train, or
            weights of several dtypes or of one that JAX does not have switched on, if it draws
            random numbers or changes its buffers (in training mode), if the criterion gives no
            scalar, if an operation is unknown to torchax or the code asks for a tensor's value, if
            torch cannot compute the loss, as with a label out of range, or computes another.

    Warns:
        UserWarning: if torch's gradient at the module's weights is another, as where the criterion
            uses weights of the module, which are constants there, or at a kink.

    Example:
        >>> import torch
        >>> from flows import GradientDescent, iterate
        >>> from potentials import from_torch
        >>> module = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> _ = torch.nn.init.ones_(module.weight)
        >>> x = torch.tensor([[1.0], [2.0]])
        >>> potential = from_torch(module, torch.nn.functional.mse_loss, x, 3.0 * x)
        >>> float(potential(potential.params))
        10.0
        >>> run = iterate(GradientDescent(0.1), potential, potential.params, steps=9)
        >>> round(float(run.params["weight"][-1, 0, 0]), 3)
        2.996
    """
    torch, _ = _import()
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
    if isinstance(criterion, type):
        raise ValueError(
            f"criterion must be an instance, got the class {criterion.__name__}: give "
            f"{criterion.__name__}()."
        )
    if not callable(criterion):
        raise ValueError(
            f"criterion must be a torch function or module of (prediction, targets), "
            f"got {type(criterion).__name__}."
        )
    weights, constants, buffers = _state(module)
    _check_weights(torch, weights)
    criterion_buffers = {}
    if isinstance(criterion, torch.nn.Module):
        trained, *others = _state(criterion)
        if trained:
            raise ValueError(
                "criterion must have no weights to train, those belong to the module; "
                "criterion.requires_grad_(False) makes them constants."
            )
        criterion_buffers = others[0] | others[1]
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    original = module, criterion
    module, criterion = copy.deepcopy(module), copy.deepcopy(criterion)
    potential = TorchPotential(
        params=_arrays("module", weights),
        buffers=_arrays("module", constants | buffers),
        criterion_buffers=_arrays("criterion", criterion_buffers),
        inputs=_arrays("inputs", inputs),
        targets=_arrays("targets", targets),
        module=module,
        criterion=criterion,
    )
    jax.eval_shape(potential, potential.params)  # Raises what can be known only from a call.
    _check_against_torch(torch, *original, potential)
    return potential


def _import() -> tuple[ModuleType, ModuleType]:
    """Import torch and torchax, or say which versions to install."""
    try:
        return importlib.import_module("torch"), importlib.import_module("torchax")
    except (ImportError, AttributeError) as error:
        # torchax reads private names of torch, which change: a later torch is an AttributeError.
        raise ImportError(
            f"from_torch needs PyTorch and torchax, in versions that fit together: "
            f"pip install {_VERSIONS} (importing them gave: {error})."
        ) from error


@functools.cache
def _environment() -> Any:
    """Our own table of operations, so that torchax's settings for all others stay as they are."""
    torch, torchax = _import()
    environment = torchax.tensor.Environment()
    # torchax 0.0.13 lets the gradient pass through torch.detach and the detach of a view.
    environment.override_op_definition(torch.ops.aten.detach, _detach)
    return environment


def _detach(tensor: Any) -> Any:
    """A torchax tensor through which no gradient passes; a tensor of torch itself has none."""
    if not hasattr(tensor, "jax"):
        return tensor
    environment = _environment()
    return environment.j2t_iso(jax.lax.stop_gradient(environment.t2j_iso(tensor)))


@contextlib.contextmanager
def _torch_in_jax() -> Iterator[tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]]:
    """Let operations of torch run in JAX.

    Yields:
        A function that calls a torch module, or function, with the arrays of its state; one that
        makes torch tensors of the arrays in a pytree; and one for the way back.
    """
    torch, torchax = _import()
    environment, key = _environment(), jax.random.key(0)

    def call(function: Callable[..., Any], state: dict[str, Array], *args: Any) -> Any:
        if not isinstance(function, torch.nn.Module):
            return function(*args)
        tensors = environment.j2t_iso(state)
        result = torch.func.functional_call(function, tensors, args)
        # torch changes a tensor in place, which for torchax is to give it another array.
        changed = [name for name, array in state.items() if tensors[name].jax() is not array]
        if changed:
            raise ValueError(
                f"a loss must not change the module, but its call changes {changed[0]!r}. "
                f"BatchNorm does so in training mode: call module.eval() first, or make it with "
                f"track_running_stats=False, which normalises with the batch and keeps no buffers."
            )
        return result

    class NoGradient(torch.overrides.TorchFunctionMode):
        """JAX does not see torch.no_grad: what is computed there is detached one by one."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if torch.is_grad_enabled():
                return result
            return torch.utils._pytree.tree_map_only(torch.Tensor, _detach, result)

    with (
        # torch promotes and broadcasts as JAX does by default, whatever this program allows.
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        environment.override_property(prng=key),
        # Tensors that the module makes, as by torch.arange(n), are JAX arrays as well. Without an
        # index torch would make a tensor to find it, which is more than it can do for "jax".
        torch.device("jax", 0),
        torch.enable_grad(),
        environment,
        NoGradient(),
    ):
        try:
            yield call, environment.j2t_iso, environment.t2j_iso
        except torchax.tensor.OperatorNotFound as error:
            raise ValueError(
                f"torchax {torchax.__version__} cannot run an operation of the module or the "
                f"criterion: {error}."
            ) from error
        except _VALUE_ASKED_FOR as error:
            raise ValueError(
                f"the module or the criterion asks for the value of a tensor, at {_place(error)}, "
                f"as `if`, float(), .item(), .numpy() and x[x > 0] do: a compiled program has "
                f"none. Write it with torch.where, or with sizes that are known."
            ) from error
        except AssertionError as error:
            if "mixed math" not in str(error):
                raise
            raise ValueError(
                "the module or the criterion uses a tensor that is no parameter and no buffer: "
                "make it one with self.register_buffer(name, tensor)."
            ) from error
        if environment.param.prng is not key:
            raise ValueError(
                "a loss must be deterministic, but the module draws random numbers. Dropout does "
                "so in training mode: call module.eval() first; torch.nn.functional.dropout needs "
                "training=self.training."
            )


def _place(error: BaseException) -> str:
    """Return the file and line of the code, neither ours nor a package's, that raised an error."""
    files = [*(package.__file__ for package in (*_import(), jax, eqx)), __file__]
    installed = tuple(str(Path(file or "").parent) for file in files)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(installed) and f.lineno is not None]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else "a place unknown"


def _check_params(params: Any, own: dict[str, Array]) -> None:
    """Raise a ValueError unless `params` are arrays with the names and shapes of the module's."""
    if not isinstance(params, dict):
        raise ValueError(
            f"params must be a dictionary of arrays by the names of the module's parameters, as "
            f"potential.params; got {type(params).__name__}."
        )
    for name in {**own, **params}:
        if name not in params:
            raise ValueError(
                f"params must hold every parameter of the module; {name!r} is missing."
            )
        if name not in own:
            raise ValueError(
                f"params must hold the module's parameters alone; {name!r} is none, as buffers and "
                f"frozen weights are: keep the names of potential.params."
            )
        if type(params[name]).__module__.partition(".")[0] == "torch":
            raise ValueError(
                f"params must be arrays; {name!r} is a torch tensor: take "
                f"tensor.detach().cpu().numpy()."
            )
        given, wanted = jnp.shape(params[name]), own[name].shape
        if given != wanted:
            raise ValueError(
                f"params must have the shapes of the module's parameters: {name!r} has shape "
                f"{given} in place of {wanted}."
            )


def _check_against_torch(
    torch: ModuleType, module: Any, criterion: Callable[..., Any], potential: TorchPotential
) -> None:
    """Compare the loss and its gradient with torch's own, where the module is now.

    Raises:
        ValueError: if torch raises an error, or computes another loss.

    Warns:
        UserWarning: if its gradient is another.
    """
    weights, _, _ = _state(module)
    first = next(iter(weights.values()))
    dtype = next(iter(potential.params.values())).dtype

    def tensor(array: Array) -> Any:
        copied = np.array(array)
        if np.issubdtype(copied.dtype, np.integer) and copied.dtype != np.uint8:
            copied = copied.astype(np.int64)  # labels have to be, also where JAX has 32 bits only
        return torch.from_numpy(copied).to(first.device)

    inputs, targets = jax.tree.map(tensor, cast((potential.inputs, potential.targets), dtype))
    try:
        with torch.enable_grad():
            loss = criterion(module(*inputs), targets)
            found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise ValueError(
            f"torch itself cannot compute this loss and its gradient: {type(error).__name__}: "
            f"{error}"
        ) from error
    ours, gradient = jax.jit(jax.value_and_grad(lambda w: potential(w)))(potential.params)
    theirs = float(loss.detach())
    allowed = 50 * float(jnp.finfo(dtype).eps) ** 0.5
    if not np.isclose(float(ours), theirs, rtol=allowed, atol=allowed, equal_nan=True):
        raise ValueError(
            f"the loss at the module's weights is {float(ours):g} in JAX and {theirs:g} in torch. "
            f"A label or an index out of range gives this (JAX takes one that exists), and so does "
            f"a module whose result changes from call to call."
        )
    size = float(np.sqrt(sum(float(jnp.sum(jnp.square(g))) for g in gradient.values())))
    for name, expected in zip(weights, found, strict=True):
        expected = 0.0 if expected is None else expected.detach().cpu().numpy()
        off = float(np.linalg.norm(np.asarray(gradient[name]) - expected))
        if not off <= allowed * max(size, float(np.linalg.norm(expected))) + allowed**2:
            warnings.warn(
                f"the gradient in {name!r} differs from torch's by {off:.3g} (that of all has "
                f"norm {size:.3g}) at the module's weights: the criterion uses weights of the "
                f"module, which are constants there and belong into its forward; or the point is "
                f"at a kink, such as the norm of a zero vector, where the two libraries choose "
                f"differently.",
                stacklevel=3,
            )
            return


def _state(module: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a torch module's trained parameters, its other parameters, and its buffers."""
    parameters = dict(module.named_parameters())
    weights = {name: p for name, p in parameters.items() if p.requires_grad}
    constants = {name: p for name, p in parameters.items() if name not in weights}
    return weights, constants, dict(module.named_buffers())


def _check_weights(torch: ModuleType, weights: dict[str, Any]) -> None:
    """Raise a ValueError unless there are weights, all of one float dtype that JAX has."""
    if not weights:
        raise ValueError("module must have a parameter with requires_grad=True, it has none.")
    for name, weight in weights.items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the module's parameters must be float32 or float64, {name!r} is {weight.dtype}; "
                f"see module.float() and module.double()."
            )
    dtypes = {weight.dtype for weight in weights.values()}
    if len(dtypes) > 1:
        raise ValueError(
            "the module's parameters must all have one dtype, they have float32 and float64; "
            "see module.float() and module.double()."
        )
    if torch.float64 in dtypes and jax.dtypes.canonicalize_dtype("float64") != "float64":
        raise ValueError(
            "the module's parameters are float64, which needs JAX's x64 mode: "
            "jax.config.update('jax_enable_x64', True), or module.float()."
        )


def _arrays(name: str, tree: PyTree) -> PyTree[Array]:
    """Copy the tensors and arrays of a pytree to JAX arrays."""
    torch, _ = _import()

    def convert(leaf: Any) -> Array:
        if isinstance(leaf, torch.Tensor):
            # A copy: JAX would share the memory of the array, which torch goes on writing to.
            return jnp.array(leaf.detach().cpu().resolve_conj().numpy())
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            return jnp.array(leaf)
        raise ValueError(
            f"{name} must be a torch tensor, an array, or a tuple or dictionary of them; "
            f"got {type(leaf).__name__}."
        )

    return jax.tree.map(convert, tree, is_leaf=lambda leaf: leaf is None)
