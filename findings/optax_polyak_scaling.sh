#!/bin/sh
# optax.polyak_sgd(scaling=s) takes a LONGER step for a smaller s.
#
# One expects the step s * f / |g|^2 * g. But the gradient is scaled first, so that Polyak's rule
# divides by s^2 |g|^2: the step is f / (s |g|^2) * g. On w^2/2 it takes w to (1 - 1/(2 s)) w, stable
# for s > 1/4 only, where s * f / |g|^2 * g would be stable for s < 4. A factor that was meant to
# make steps cautious, scaling=0.1, makes the iterates grow fourfold per step.
# (The rate in it, f / |s g|^2, is at most max_learning_rate, which is 1 unless it is given.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import optax

print(f"optax {optax.__version__}, jax {jax.__version__}")


def loss(w):
    return 0.5 * w**2


def path(scaling, steps):
    """The iterates of optax.polyak_sgd on w^2/2 from w = 1."""
    method = optax.polyak_sgd(max_learning_rate=1e6, scaling=scaling)
    w = jnp.asarray(1.0)
    state, found = method.init(w), [1.0]
    for _ in range(steps):
        value, gradient = jax.value_and_grad(loss)(w)
        update, state = method.update(gradient, state, w, value=value)
        w = optax.apply_updates(w, update)
        found.append(float(w))
    return found


print("scaling s   w after a step   1 - 1/(2 s)   1 - s/2, as one expects")
for s in (2.0, 1.0, 0.5, 0.25, 0.1):
    found = path(s, 1)[1]
    print(f"{s:9g} {found:16.4f} {1 - 1 / (2 * s):13.4f} {1 - s / 2:13.4f}")
    assert abs(found - (1 - 1 / (2 * s))) < 1e-5, "the step is no longer f / (s |g|^2) g"
grown = path(0.1, 5)
print("w with scaling=0.1:", [round(w, 1) for w in grown])
assert abs(grown[-1]) > 1000, "small scalings no longer diverge"
PY
