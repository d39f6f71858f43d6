#!/bin/sh
# torch's fused layer_norm has wrong derivatives from the third on, without a word.
#
# Central Flow needs third derivatives of the loss. torch.nn.functional.layer_norm allows create_graph
# again and again, and its first and second derivatives are right; one expects the third to be so.
# But its double backward uses the mean and the inverse deviation that the forward pass saved, which
# autograd takes for constants (pytorch issue 175754). The same norm written out in means and
# square roots is right to all orders. A Central Flow in torch of any network with torch's LayerNorm
# is therefore another flow than that of its loss.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch

print(f"torch {torch.__version__}")
torch.manual_seed(0)
point, direction, weights = torch.randn(3, 5, dtype=torch.float64)


def fused(x):
    return torch.nn.functional.layer_norm(x, (5,))


def written_out(x):
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5)


def directional_derivatives(norm):
    """d^n/dt^n <norm(point + t direction), weights> at t = 0, for n = 1, 2, 3."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value, found = (norm(point + t * direction) * weights).sum(), []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
        found.append(float(value.detach()))
    return found


def difference_quotient(h=1e-3):
    """The third derivative from second derivatives of the fused norm, which are right."""

    def second(shift):
        t = torch.full((), shift, dtype=torch.float64, requires_grad=True)
        value = (fused(point + t * direction) * weights).sum()
        for _ in range(2):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
        return float(value.detach())

    return (second(h) - second(-h)) / (2 * h)


one, other = directional_derivatives(fused), directional_derivatives(written_out)
numerical = difference_quotient()
for order, (a, b) in enumerate(zip(one, other, strict=True), start=1):
    print(f"order {order}: fused {a: .9f}, written out {b: .9f}")
print(f"order 3 by differences of the fused norm's own second derivatives: {numerical: .9f}")
assert all(abs(a - b) < 1e-10 for a, b in zip(one[:2], other[:2], strict=True))
assert abs(other[2] - numerical) < 1e-4 * abs(numerical), "the norm written out is no longer right"
assert abs(one[2] - numerical) > 1e-2 * abs(numerical), "the fused norm is right now, or raises"
PY
