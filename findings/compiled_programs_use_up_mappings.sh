#!/bin/sh
# A compiled program of JAX's CPU backend holds a hundred memory mappings and more, of 65,530.
#
# One expects that a long session, which compiles one small program after the other, is limited by
# its memory. But each kernel of a program is mapped by itself, with several mappings, for as long
# as the program is cached; Linux allows a process `vm.max_map_count` of them, by default 65,530.
# Some five hundred gradients of a loss with twenty layers use them up, at a few gigabytes; compiling
# then fails as if memory had run out. jax.clear_caches() gives all of them back.
# `experiments.system.programs` does so between the parts of a long study.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import gc
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

print(f"jax {version('jax')}, jaxlib {version('jaxlib')}")
COUNT = 20


def mappings():
    """How many pieces of memory this process has mapped."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def loss(w, shift):
    """A network of twenty layers."""
    x = jnp.linspace(-1.0, 1.0, 8)
    for _ in range(20):
        x = jnp.tanh(w @ x + shift)
    return jnp.sum(x**2)


jnp.ones(3).block_until_ready()
begin = mappings()
functions = [jax.jit(jax.grad(lambda w, k=k: loss(w, float(k)))) for k in range(COUNT)]
for function in functions:
    function(0.1 * jnp.ones((8, 8))).block_until_ready()
each = (mappings() - begin) / COUNT
jax.clear_caches()
gc.collect()
left = mappings() - begin
print(f"{each:.0f} mappings for each of {COUNT} compiled gradients, {left} in all once cleared")
assert each > 50, "a compiled gradient holds few mappings now"
assert left < COUNT, "jax.clear_caches() no longer gives the mappings back"
PY
