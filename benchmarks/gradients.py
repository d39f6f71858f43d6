"""How many gradients the flows need, counted: a step of gradient descent makes one."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from flows import AbstractFlow, CentralFlow, GradientDescent, GradientFlow, RodFlow, simulate
from flows.solvers.accuracy import Accuracy

from .problems import LEARNING_RATE, demo_network
from .rows import Measured, row


def _counted(
    flow: AbstractFlow, steps: int, before: int = 0, accuracy: Accuracy = "default"
) -> Measured:
    """Count steps on the demo network, and their error against those of reference accuracy.

    Args:
        flow: The flow.
        steps: How many steps to count.
        before: How many steps to make before these.
        accuracy: Of what is counted.
    """
    potential, params = demo_network()
    options = {"save_every": 20, "measurements": ()}
    start, state = params, None
    if before:
        start, state = None, simulate(flow, potential, params, before, **options).state
    found = simulate(flow, potential, start, steps, state=state, accuracy=accuracy, **options)
    exact = simulate(flow, potential, start, steps, state=state, accuracy="reference", **options)

    def flat(run):
        return jax.vmap(lambda tree: ravel_pytree(tree)[0])(run.params)

    errors = jnp.linalg.norm(flat(found) - flat(exact), axis=1)
    displacements = jnp.linalg.norm(flat(exact) - flat(exact)[0], axis=1)
    count = float(found.stats["gradient_equivalents"]) / steps
    return Measured(
        count,
        {
            "error / displacement": float(jnp.max(errors) / jnp.max(displacements)),
            "solver steps per step": float(found.stats["solver_steps"]) / steps,
        },
    )


@row(
    "gradient-flow-gradients",
    target=1,
    compares="gradients a step of GradientFlow, draft / of gradient descent; demo network, 1000 "
    "steps",
)
def gradient_flow() -> Measured:
    """The solver takes long steps, with stages that keep them stable."""
    return _counted(GradientFlow(GradientDescent(LEARNING_RATE)), steps=1000, accuracy="draft")


@row(
    "central-gradients",
    target=6,
    compares="gradient-equivalents a step of CentralFlow(rank 3) / of gradient descent; demo "
    "network, 200 steps",
)
def central_flow() -> Measured:
    """From the start through the edge, until a fourth eigenvalue becomes critical."""
    return _counted(CentralFlow(GradientDescent(LEARNING_RATE), rank=3), steps=200)


@row(
    "central-gradients-edge",
    target=4,
    compares="gradient-equivalents a step of CentralFlow(rank 5) / of gradient descent; demo "
    "network, steps 160-360",
)
def central_flow_at_the_edge() -> Measured:
    """Three and four eigenvalues are critical."""
    return _counted(CentralFlow(GradientDescent(LEARNING_RATE), rank=5), steps=200, before=160)


@row(
    "rod-gradients",
    target=16,
    compares="gradient-equivalents a step of RodFlow(rank 2) / of gradient descent; demo network, "
    "300 steps",
)
def rod_flow() -> Measured:
    """Through the edge."""
    return _counted(RodFlow(GradientDescent(LEARNING_RATE), rank=2), steps=300)
