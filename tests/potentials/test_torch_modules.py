"""Losses of PyTorch modules against torch's own; skipped where torch and torchax are missing."""

import copy
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flows import CentralFlow, GradientDescent, GradientFlow, RodFlow, iterate, simulate
from potentials import from_torch
from potentials.torch_modules import TorchPotential
from tests.helpers import as_users_run, assert_trees_close

if all(importlib.util.find_spec(name) for name in ("torch", "torchax")):
    import torch
    from torch import nn
    from torch.nn import functional as F
else:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch and torchax are not installed")


def test_without_torch_the_versions_to_install_are_named(monkeypatch):
    """A package that is missing, and one that does not fit, give the same advice."""
    for error in (ImportError, AttributeError):

        def fails(name, error=error):
            raise error(f"{name} does not load")

        monkeypatch.setattr(importlib, "import_module", fails)
        with pytest.raises(ImportError, match=r"pip install torch==\S+ torchax==\S+ .*torch does"):
            from_torch(lambda x: x, lambda x, y: x, np.ones(2), np.ones(2))


def mlp():
    """A perceptron with a tanh, two outputs."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return module, F.mse_loss, torch.randn(6, 3), torch.randn(6, 2)


def cnn():
    """Convolutions, BatchNorm in evaluation mode, both poolings and classes."""
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 3, 3, bias=False),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(3, 3),
    )
    module(torch.randn(4, 1, 8, 8))  # Running averages that are not 0 and 1.
    return module.eval(), nn.CrossEntropyLoss(), torch.randn(5, 1, 8, 8), torch.randint(3, (5,))


def attention():
    """A causal attention block with positions and a mask that it makes itself, and tied weights."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(5, 8), nn.Embedding(4, 8)
            self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 24)
            self.out = nn.Linear(8, 5)
            self.out.weight = self.tokens.weight

        def forward(self, tokens):
            n = tokens.shape[1]
            x = self.tokens(tokens) + self.positions(torch.arange(n))
            heads = self.mix(self.norm(x)).reshape(-1, n, 3, 2, 4).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(*heads, is_causal=True)
            q, k, v = heads
            scores = (q @ k.transpose(-1, -2)).masked_fill(torch.ones(n, n).triu(1) > 0, -torch.inf)
            y = y + scores.softmax(-1) @ v
            return self.out(x + y.transpose(1, 2).reshape(-1, n, 8)).transpose(1, 2)

    criterion = nn.CrossEntropyLoss(weight=torch.rand(5), label_smoothing=0.1)
    return Block(), criterion, torch.randint(5, (3, 4)), torch.randint(5, (3, 4))


def build(case, dtype="float64"):
    """A module, its criterion and its data, the floats in one dtype."""

    def cast(part):
        is_float = isinstance(part, nn.Module) or (
            isinstance(part, torch.Tensor) and part.is_floating_point()
        )
        return part.to(getattr(torch, dtype)) if is_float else part

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tuple(map(cast, case()))


def numbers(tensors):
    """Torch tensors by name as JAX arrays."""
    return {name: jnp.asarray(tensor.detach().numpy()) for name, tensor in tensors.items()}


def by_torch(module, criterion, inputs, targets, direction, order=2):
    """The loss, its gradient, and D^k L[v, ..., v, .] up to an order by torch's own autograd."""
    weights = dict(module.named_parameters())
    # The fused kernels of attention have no second derivative.
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        slope = criterion(module(inputs), targets)
    found = [jnp.asarray(slope.detach().numpy())]
    for _ in range(order):
        gradient = torch.autograd.grad(slope, [*weights.values()], create_graph=True)
        found.append(numbers(dict(zip(weights, gradient, strict=True))))
        slope = sum(
            (g * torch.from_numpy(np.array(direction[name]))).sum()
            for name, g in zip(weights, gradient, strict=True)
        )
    return tuple(found)


CASES = {"mlp": mlp, "cnn": cnn, "attention": attention}


@needs_torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_loss_gradient_and_hessian_are_those_of_torch(case, dtype):
    """To rounding, in the dtype of the module; by forward over reverse."""
    parts = build(CASES[case], dtype)
    potential = from_torch(*parts)
    names = potential.params
    keys = dict(zip(names, jax.random.split(jax.random.key(1), len(names)), strict=True))
    direction = {n: jax.random.normal(keys[n], names[n].shape, names[n].dtype) for n in names}

    @jax.jit
    def by_jax(params):
        slope = jax.value_and_grad(potential)
        (loss, gradient), (_, product) = jax.jvp(slope, (params,), (direction,))
        return loss, gradient, product

    expected = by_torch(*parts, direction)
    assert expected[0].dtype == dtype
    tolerance = 50 * float(jnp.finfo(dtype).eps)
    assert_trees_close(by_jax(names), expected, rtol=tolerance, atol=tolerance)


@needs_torch
def test_gradient_descent_makes_the_steps_of_torch():
    """Those of its own optimizer on its own loss."""
    potential = from_torch(*build(mlp))
    start = potential.init(jax.random.key(0))
    run = iterate(GradientDescent(0.9), potential, start, steps=4)
    module, criterion, inputs, targets = build(mlp)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        criterion(module(inputs), targets).backward()
        optimizer.step()
    last = jax.tree.map(lambda path: path[-1], run.params)
    assert_trees_close(last, numbers(dict(module.named_parameters())), rtol=1e-12, atol=1e-12)


FLOWS = {
    "gradient": lambda descent: GradientFlow(descent, correction=True),
    # At this learning rate one mode is at the edge from the start: third derivatives act.
    "central": lambda descent: CentralFlow(descent, 2),
    "rod": lambda descent: RodFlow(descent, 1),
}


@needs_torch
@pytest.mark.parametrize("kind", FLOWS)
def test_flows_are_those_of_the_same_loss_in_jax(kind):
    """The perceptron written in JAX: equal but for rounding."""
    potential = from_torch(*build(mlp))
    x, y = potential.inputs[0].astype("float64"), potential.targets.astype("float64")

    def loss(w):
        hidden = jnp.tanh(x @ w["0.weight"].T + w["0.bias"][None])
        return jnp.mean((hidden @ w["2.weight"].T + w["2.bias"][None] - y) ** 2)

    flow = FLOWS[kind](GradientDescent(0.9))
    ours, plain = (simulate(flow, one, potential.params, steps=2) for one in (potential, loss))
    assert_trees_close(ours.params, plain.params, rtol=1e-10, atol=1e-10)
    assert float(abs(ours.params["0.weight"][-1] - ours.params["0.weight"][0]).max()) > 1e-2
    if kind == "central":
        assert int(ours.observables["critical_rank"][-1]) == 1


@needs_torch
def test_third_derivatives_are_those_of_torch():
    """Through attention, where torchax has formulas of its own: D^3 L[v, v, .]."""

    class Norm(nn.Module):
        """LayerNorm written out: torch's own third derivative is wrong, pytorch issue 175754."""

        def __init__(self, norm):
            super().__init__()
            self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

        def forward(self, x):
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            return self.weight * centred * (variance + self.eps).rsqrt() + self.bias

    module, *rest = build(attention)
    potential = from_torch(module, *rest)
    w = potential.params
    v = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype) + 1.0).reshape(leaf.shape), w
    )

    @jax.jit
    def third(w):
        def product(t):
            at = jax.tree.map(lambda a, b: a + t * b, w, v)
            return jax.jvp(jax.grad(potential), (at,), (v,))[1]

        return jax.jvp(product, (0.0,), (1.0,))[1]

    module.norm = Norm(module.norm)
    expected = by_torch(module, *rest, v, order=3)[-1]
    # The largest entry is 70; each is a sum of many that cancel.
    assert_trees_close(third(w), expected, rtol=1e-12, atol=1e-12)


@needs_torch
def test_tied_weights_and_frozen_ones():
    """Tied weights are one entry; buffers, and what needs no gradient, are constants."""
    module, criterion, inputs, targets = build(attention)
    module.norm.requires_grad_(False)
    module.register_parameter("counts", nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    potential = from_torch(module, criterion, inputs, targets)
    assert "tokens.weight" in potential.params
    assert {"out.weight", "norm.weight", "counts"}.isdisjoint(potential.params)
    assert {"norm.weight", "norm.bias", "counts"} == set(potential.buffers)
    with torch.no_grad():
        before, _ = potential(potential.params), module.tokens.weight.zero_()
    assert float(potential(potential.params)) == float(before), "the potential holds a copy"


@needs_torch
def test_no_grad_and_detach_stop_the_gradient():
    """As in torch, though JAX differentiates."""

    class Bootstrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

        def forward(self, x):
            with torch.no_grad():
                goal = torch.sin(0.5 * self.w * x)
            return self.w * x - goal - self.w.detach()

    x = torch.ones(1, dtype=torch.float64)
    potential = from_torch(Bootstrap(), F.mse_loss, x, 0.0 * x)
    residual = 2.0 - np.sin(1.0) - 2.0
    assert float(jax.grad(potential)(potential.params)["w"][0]) == pytest.approx(2.0 * residual)


@needs_torch
def test_params_of_another_dtype_and_data_as_arrays():
    """Buffers and float data follow the parameters; several inputs are a tuple."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1, dtype=torch.float64)
            self.register_buffer("scale", torch.tensor(3.0, dtype=torch.float64))

        def forward(self, x, y):
            return self.scale * self.layer(x) * y

    x, y = np.arange(6.0).reshape(3, 2), jnp.ones((3, 1))
    potential = from_torch(Product(), F.l1_loss, (x, y), np.zeros((3, 1), np.float32))
    single = jax.tree.map(lambda leaf: leaf.astype("float32"), potential.params)
    loss = potential(single)
    assert loss.dtype == "float32"
    assert float(loss) == pytest.approx(float(potential(potential.params)), rel=1e-6)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), potential.params)
    assert jax.vmap(potential)(many)[0] == pytest.approx(float(potential(potential.params)))


def _wrong(change):
    """The MLP's arguments, changed in one place."""
    parts = dict(zip(("module", "criterion", "inputs", "targets"), build(mlp), strict=True))
    return from_torch(**(parts | change))


def _layers(*layers):
    return {"module": nn.Sequential(nn.Linear(3, 2), *layers).double()}


class Counted:
    """A criterion that gives another number at each call."""

    calls = 0

    def __call__(self, x, y):
        Counted.calls += 1
        return Counted.calls * F.mse_loss(x, y)


WRONG = {
    "no module": (lambda: {"module": torch.tanh}, "must be a torch.nn.Module, got builtin"),
    "no parameters": (lambda: {"module": nn.Tanh()}, "requires_grad=True, it has none"),
    "frozen": (lambda: {"module": nn.Linear(3, 2).requires_grad_(False)}, "it has none"),
    "half": (lambda: {"module": nn.Linear(3, 2).half()}, "'weight' is torch.float16"),
    "complex": (lambda: {"module": nn.Linear(3, 2, dtype=torch.complex64)}, "torch.complex64"),
    "mixed": (
        lambda: {"module": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double())},
        "must all have one dtype",
    ),
    "dropout": (lambda: _layers(nn.Dropout(0.5)), r"draws random numbers.*module\.eval\(\)"),
    "batch norm": (lambda: _layers(nn.BatchNorm1d(2)), r"changes '1\.\w+'.*module\.eval\(\)"),
    "no criterion": (lambda: {"criterion": "mse"}, "criterion must be a torch function"),
    "a trained criterion": (lambda: {"criterion": nn.Linear(2, 1)}, "no weights to train"),
    "not reduced": (
        lambda: {"criterion": nn.MSELoss(reduction="none")},
        r"scalar, got shape \(6, 2\).*reduction='mean'",
    ),
    "whole numbers": (lambda: {"criterion": lambda x, y: (x > y).sum()}, "of dtype int64"),
    "no tensor": (lambda: {"criterion": lambda x, y: 1.0}, "got float"),
    "a list": (lambda: {"inputs": [[1.0, 2.0, 3.0]]}, "inputs must be a torch tensor.*got float"),
    "None": (lambda: {"targets": None}, "targets must be a torch tensor.*got NoneType"),
    "a lost tensor": (
        lambda: {"criterion": functools.partial(F.mse_loss, weight=torch.ones(6, 2))},
        "no parameter and no buffer",
    ),
    "a class": (lambda: {"criterion": nn.MSELoss}, r"got the class MSELoss: give MSELoss\(\)"),
    "a branch": (
        lambda: {"criterion": lambda x, y: F.mse_loss(x, y) if x.max() > 1 else x.sum()},
        r"asks for the value of a tensor, at .*test_torch_modules.py:\d+, .*torch.where",
    ),
    "a mask": (
        lambda: {"criterion": lambda x, y: x[x > 0].sum()},
        r"at .*test_torch_modules.py:\d+, .*torch.where",
    ),
    "a label too large": (
        lambda: {"criterion": F.cross_entropy, "targets": torch.tensor([0, 1, 2, 0, 1, 0])},
        "torch itself cannot compute this loss.*IndexError: Target 2 is out of bounds",
    ),
    "a counter": (lambda: {"criterion": Counted()}, "in JAX and .* in torch.*from call to call"),
    "no lowering": (
        lambda: {"criterion": lambda x, y: torch.special.airy_ai(x).sum()},
        r"torchax 0\.\d+\.\d+ cannot run an operation",
    ),
}


@needs_torch
@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_loss_is_refused(case):
    """At once, with the argument and the way out."""
    change, sentence = WRONG[case]
    with as_users_run(), pytest.raises(ValueError, match=sentence):
        _wrong(change())


@needs_torch
def test_wrong_params_and_single_precision_are_told():
    """A name that is missing, a shape, and float64 weights where JAX has float32 only."""
    potential = from_torch(*build(mlp))
    assert isinstance(potential, TorchPotential)
    with pytest.raises(ValueError, match=r"'2.bias' is missing"):
        potential({name: p for name, p in potential.params.items() if name != "2.bias"})
    with pytest.raises(ValueError, match=r"'2.bias' has shape \(3,\) in place of \(2,\)"):
        potential(potential.params | {"2.bias": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"'1.running_mean' is none.*potential.params"):
        potential(potential.params | {"1.running_mean": jnp.zeros(3)})
    with as_users_run():
        tensors = {name: torch.tensor(np.asarray(p)) for name, p in potential.params.items()}
        with pytest.raises(ValueError, match=r"'0.bias' is a torch tensor: take tensor.detach"):
            potential(tensors)
        with pytest.raises(ValueError, match=r"must be a dictionary of arrays.*got list"):
            potential([*potential.params.values()])
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs JAX's x64 mode"):
        from_torch(*build(mlp))


@needs_torch
def test_a_gradient_that_is_not_torchs_is_told():
    """A penalty on the module's weights in the criterion has no derivative in JAX."""
    module, criterion, inputs, targets = build(mlp)

    def penalised(x, y):
        return criterion(x, y) + sum((w**2).sum() for w in module.parameters())

    with pytest.warns(UserWarning, match="differs from torch's.*belong into its forward"):
        from_torch(module, penalised, inputs, targets)


@needs_torch
def test_normalising_with_the_batch_is_a_loss():
    """BatchNorm without running averages needs no evaluation mode."""
    module, criterion, inputs, targets = build(mlp)
    module.insert(1, nn.BatchNorm1d(4, track_running_stats=False).double())
    expected = criterion(copy.deepcopy(module)(inputs), targets).item()
    potential = from_torch(module, criterion, inputs, targets)
    assert float(potential(potential.params)) == pytest.approx(expected, rel=1e-14)
