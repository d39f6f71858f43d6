#!/bin/sh
# matfree.decomp.tridiag_sym goes on where the Krylov space is exhausted, and returns wrong numbers.
#
# A vector has parts along m distinct eigenvalues; after m steps of the Lanczos process nothing new
# is left. One expects that further steps change nothing. But the rounding errors that are left are
# divided by their own size and taken for the next basis vector, and their coupling for a part of
# the tridiagonal matrix. Its eigenvalues are then none of the matrix's own, and those that had been
# exact after m steps are not any more. Hessians of small problems have few distinct eigenvalues;
# `flows.hessian_spectrum` has a Lanczos process of its own, which ends there.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check matfree==0.6.3 jax==0.10.2
JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 "$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import jax
import jax.numpy as jnp
from matfree import decomp

print(f"matfree {version('matfree')}, jax {jax.__version__}")
diagonal = jnp.asarray([1.0, 1.0, 4.0, 4.0, 9.0])


def ritz_values(steps):
    """The eigenvalues of the tridiagonal matrix after some steps."""
    found = decomp.tridiag_sym(steps, reortho="full")(lambda v: diagonal * v, jnp.ones(5))
    return jnp.linalg.eigvalsh(found.J_small)


def worst(values):
    """How far the worst of them is from an eigenvalue."""
    return float(jnp.max(jnp.min(jnp.abs(values[:, None] - diagonal[None, :]), axis=1)))


for steps in (3, 4):
    values = ritz_values(steps)
    print(f"{steps} steps: {[round(float(x), 3) for x in values]}, off by {worst(values):.2g}")
assert worst(ritz_values(3)) < 1e-10, "three eigenvalues are no longer found in three steps"
assert worst(ritz_values(4)) > 0.1, "the fourth step no longer spoils them"
PY
