#!/bin/sh
# NAdam and AMSGrad of PyTorch and of optax, with the same hyperparameters, are other methods.
#
# 1. NAdam's edge of stability. With b1 = 0.9 and a preconditioner P it is at eta * lambda = 13.57 in
#    optax, lambda the largest eigenvalue of P^-1 H. PyTorch replaces b1 in the step, but not in the
#    average, by mu_k = b1 (1 - 0.5 * 0.96^(0.004 k)), which begins at b1/2 and takes 4000 steps to
#    reach 3/4 of b1: its edge, 2 / (mu/19 + 1 - mu), is at 3.5 for the first hundreds of steps and
#    at 13.57 only after tens of thousands. In between, PyTorch diverges where optax settles.
#    (P is held at eps here, by an eps that is large and a learning rate in proportion.)
# 2. AMSGrad's memory. optax keeps the maximum of the second moment with its bias corrected, PyTorch
#    the maximum of the raw one, and corrects that. After a first gradient of 10 and then ones, optax
#    steps by eta/10 for ever, and PyTorch by nearly eta again.
#
# The wheels of PyTorch are large: some 7 GB on disk, and some minutes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.9.0 optax==0.2.8 jax==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

print(f"torch {torch.__version__}, optax {optax.__version__}, jax {jax.__version__}")
jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)


def of_torch(make, gradient, steps):
    """The iterates from w = 1 of a method of PyTorch; the k-th gradient is gradient(k, w)."""
    w = torch.nn.Parameter(torch.ones(1))
    method, path = make([w]), [1.0]
    for k in range(steps):
        w.grad = torch.as_tensor([gradient(k, w.item())])
        method.step()
        path.append(w.item())
    return np.asarray(path)


def of_optax(method, gradient, steps):
    """The same of a method of optax."""
    w = jnp.ones(1)
    state, path, update = method.init(w), [1.0], jax.jit(method.update)
    for k in range(steps):
        change, state = update(jnp.asarray([gradient(k, float(w[0]))]), state, w)
        w = w + change
        path.append(float(w[0]))
    return np.asarray(path)


ETA, EPS = 0.1, 1e30
print("\nNAdam on a quadratic of curvature S, P = 1: |w| after 200 steps from 1")
print("eta * S       torch       optax")
ends = {}
for product in (3.0, 4.0, 8.0, 12.0, 15.0):
    slope = lambda k, w, s=product / ETA: s * w
    theirs = of_torch(lambda p: torch.optim.NAdam(p, lr=ETA * EPS, eps=EPS), slope, 200)
    other = of_optax(optax.nadam(ETA * EPS, eps=EPS), slope, 200)
    ends[product] = [np.abs(path[-10:]).max() for path in (theirs, other)]
    print(f"{product:7g} {ends[product][0]:11.3g} {ends[product][1]:11.3g}")
assert ends[3.0][0] < 1 < ends[4.0][0], "PyTorch's edge is no longer between 3 and 4"
assert ends[12.0][1] < 1 < ends[15.0][1], "optax's edge is no longer between 12 and 15"

print("\nAMSGrad, eta = 1: the length of a step; the first gradient is 10, the others are 1")
print("   step       torch       optax")
first_large = lambda k, w: 10.0 if k == 0 else 1.0
theirs, other = (
    -np.diff(path)
    for path in (
        of_torch(lambda p: torch.optim.Adam(p, lr=1.0, amsgrad=True), first_large, 1000),
        of_optax(optax.amsgrad(1.0), first_large, 1000),
    )
)
for k in (1, 2, 10, 100, 1000):
    print(f"{k:7d} {theirs[k - 1]:11.4f} {other[k - 1]:11.4f}")
assert abs(theirs[0] - other[0]) < 1e-6, "the first steps differ"
assert theirs[-1] > 9 * other[-1], "the steps no longer differ tenfold"
PY
