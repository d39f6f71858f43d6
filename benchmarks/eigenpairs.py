"""What the top three Hessian eigenpairs cost, in gradient-descent steps and in memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from flows import Curvature, GradientDescent, LossAndGradient, Trajectory, iterate, top_eigenpairs

from .memory import planned_bytes
from .problems import LEARNING_RATE, demo_network, descend, digits_network
from .rows import Measured, row
from .timing import interleaved

_COUNT = 3
_STEPS = 64


def _runs(before: int) -> tuple[Callable[[], Trajectory], Callable[[], Trajectory]]:
    """Return runs with eigenpairs and without, from where the first `before` steps end."""
    potential, params = demo_network()
    optimizer = GradientDescent(LEARNING_RATE)
    tracked = (LossAndGradient(), Curvature(_COUNT))
    start = iterate(optimizer, potential, params, before, measurements=tracked).state
    plain_start = iterate(optimizer, potential, params, before).state
    return (
        lambda: iterate(optimizer, potential, None, _STEPS, state=start, measurements=tracked),
        lambda: iterate(optimizer, potential, None, _STEPS, state=plain_start),
    )


def _products(tracked: Trajectory, plain: Trajectory) -> float:
    """Return how many Hessian-vector products a step of a run takes for its eigenpairs."""
    equivalents = "measurement_gradient_equivalents"
    more = float(tracked.stats[equivalents] - plain.stats[equivalents]) / _STEPS
    # One gradient per step, whose linearisation gives the products, is not a product.
    return (more - 1) / 2


def _tracking(before: int) -> Measured:
    """Measure steps after the first `before` ones, from whose eigenvectors they start."""
    potential, params = demo_network()
    tracked, plain = _runs(before)
    times = interleaved(
        {
            "step": lambda: descend(potential, params, _STEPS),
            "plain": plain,
            "tracked": tracked,
        }
    )
    return Measured(
        (times["tracked"] - times["plain"]) / times["step"],
        {
            "step ms": 1e3 * times["step"] / _STEPS,
            "tracking ms": 1e3 * (times["tracked"] - times["plain"]) / _STEPS,
            "products per step": _products(tracked(), plain()),
        },
    )


@row(
    "tracking-products",
    target=5,
    compares="Hessian-vector products a step of Curvature(3) every step; demo network, steps "
    "256-320, at 2/eta",
)
def products_at_the_edge() -> Measured:
    """Count them, with the largest residual that is left of an eigenvalue."""
    tracked, plain = (run() for run in _runs(256))
    residuals = tracked.observables["eigenvalue_residuals"] / tracked.observables["eigenvalues"]
    return Measured(
        _products(tracked, plain), {"residual / eigenvalue": float(jnp.max(jnp.abs(residuals)))}
    )


@row(
    "tracking-sharpening",
    target=15,
    compares="adding Curvature(3) every step / a bare step; demo network, steps 32-96, sharpening",
)
def tracking_while_sharpening() -> Measured:
    """The eigenvectors turn slowly and the gaps are wide."""
    return _tracking(32)


@row(
    "tracking-edge",
    target=15,
    compares="adding Curvature(3) every step / a bare step; demo network, steps 256-320, at 2/eta",
)
def tracking_at_the_edge() -> Measured:
    """The iterates oscillate and the top eigenvalues cluster at 2/eta: the hardest regime."""
    return _tracking(256)


@row(
    "eigenpairs-memory",
    target=40,
    compares="temporaries and results of top_eigenpairs(3, start) / vector, P = 994570",
)
def eigenpairs_memory() -> Measured:
    """Divide the bytes of the program's temporaries and results by those of one vector."""
    potential, params = digits_network((64, 960, 960, 10), examples=200)
    flat, _ = ravel_pytree(params)
    start = jax.ShapeDtypeStruct((_COUNT, flat.size), flat.dtype)

    def find(potential, params, start):
        return top_eigenpairs(potential, params, _COUNT, start=start)

    needed = planned_bytes(find, potential, params, start)
    return Measured(needed / flat.nbytes, {"MiB": needed / 2**20, "parameters": float(flat.size)})
