"""Modules that take seconds to import, imported when something of them is first used.

A config is read, and refused, without them: `from ..system.lazy import flows, jnp` is free. Python
has a statement for this from 3.15 on (PEP 810).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    import flows
    import potentials
else:

    class _Module:
        """Stands in for a module; Python itself caches what is imported."""

        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    eqx, jax, jnp = _Module("equinox"), _Module("jax"), _Module("jax.numpy")
    flows, potentials = _Module("flows"), _Module("potentials")
    optax = _Module("optax")

__all__ = ["eqx", "flows", "jax", "jnp", "optax", "potentials"]
