"""Default tolerances of adaptive steps."""

from typing import Any

import diffrax
import jax.numpy as jnp


def default_controller(dtype: Any) -> diffrax.PIDController:
    """Return tolerances that suit the precision.

    They are 1e-8 relative and 1e-10 absolute in float64; 1e-5 and 1e-7 in float32, where rounding
    in the potential sets the limit.
    """
    if jnp.finfo(dtype).bits > 32:
        return diffrax.PIDController(rtol=1e-8, atol=1e-10)
    return diffrax.PIDController(rtol=1e-5, atol=1e-7)
