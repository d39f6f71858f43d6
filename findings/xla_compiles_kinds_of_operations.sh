#!/bin/sh
# XLA's CPU backend compiles each kind of fused operation once, however often it occurs; products
# of matrices are compiled one by one.
#
# One expects that a program with a hundred copies of a loss takes a hundred times as long to
# compile as one copy, and that leaves of different shapes cost what leaves of one shape do. But
# fusions with the same operations, shapes and constants share one compiled kernel, and what counts
# is how many different ones there are: selecting between two trees of a hundred leaves of a hundred
# shapes takes some ten times as long to compile as with leaves of one shape. `a @ b` is no fusion: a
# hundred products of one shape take some four times as long as a hundred sums of products, which
# are the same and share a kernel. So a state that a loop carries compiles much faster as one vector
# than as a tree, and products of tiny matrices are better written as sums.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import resource
from importlib.metadata import version

import jax
import jax.numpy as jnp
from jax import lax

print(f"jax {version('jax')}, jaxlib {version('jaxlib')}")
COUNT = 100


def seconds(function, *arguments):
    """Processor seconds to compile a function."""
    lowered = jax.jit(function).lower(*arguments)
    begin = resource.getrusage(resource.RUSAGE_SELF)
    lowered.compile()
    end = resource.getrusage(resource.RUSAGE_SELF)
    return end.ru_utime - begin.ru_utime + end.ru_stime - begin.ru_stime


def selected(leaves):
    """A loop that keeps or doubles its leaves."""
    step = lambda i, xs: [jnp.where(i > 1, x, 2 * x) for x in xs]
    return lax.fori_loop(0, 3, step, leaves)


def chain(product):
    """A hundred products of 3 x 3 matrices, each of what the one before and a tanh gave."""

    def function(a, b):
        for _ in range(COUNT):
            a = product(jnp.tanh(a), b)
        return a

    return function


seconds(jnp.sin, jnp.ones(3))
one_shape = seconds(selected, [jnp.ones(7) for _ in range(COUNT)])
many_shapes = seconds(selected, [jnp.ones(7 + i) for i in range(COUNT)])
print(f"{COUNT} leaves: {one_shape:.2f} s with one shape, {many_shapes:.2f} s with as many shapes")
matrix = jnp.ones((3, 3))
matmul = seconds(chain(jnp.matmul), matrix, matrix)
sums = seconds(chain(lambda a, b: jnp.sum(a[:, :, None] * b[None], axis=1)), matrix, matrix)
print(f"{COUNT} products of 3 x 3: {matmul:.2f} s as a @ b, {sums:.2f} s as sums of products")
assert many_shapes > 3 * one_shape, "leaves of many shapes no longer take longer"
assert matmul > 1.5 * sums, "products are now compiled as quickly as sums"
PY
