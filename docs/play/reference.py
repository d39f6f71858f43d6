"""Write what eosflows computes of the play page's flows: `reference.json`, and the pits' numbers.

The page's own code is tested against it. Run it, from the root of the repository, after a change of
a flow or a loss that the page has:

    python docs/play/reference.py

It takes some minutes: most of them go into paths at a relative tolerance of 1e-11.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

import flows
import potentials
from flows.ball.state import BallCentreState
from flows.central.state import CentralFlowState
from flows.oscillation.state import ParityState

HERE = Path(__file__).parent
PITS = HERE / "src" / "pits.json"
REFERENCE = HERE / "reference.json"

TOLERANCE = 1e-11
"""Relative, of trajectories: the page's are compared to 1e-8."""

Point = Float[Array, "2"]
Loss = Callable[[Point], Float[Array, ""]]


def quartic(w: Point) -> Float[Array, ""]:
    """The quartic well along x, with a shallow bowl along y."""
    return potentials.Quartic(2.1, 1.0)(w[:1]) + 0.02 * w[1] ** 2


def mixed(w: Point) -> Float[Array, ""]:
    """A formula with every function that the page knows."""
    x, y = w
    first = jnp.exp(-0.3 * x) * jnp.sin(2.0 * y) + jnp.cos(x * y) / (1.5 + jnp.tanh(x))
    second = jnp.log(2.0 + x**2) + jnp.sqrt(1.0 + y**2) + 0.1 * jnp.tan(0.3 * x)
    return (
        first + second + 0.2 * jnp.abs(x - 3.0) ** 3 + 2.0 ** (0.3 * y) + (2.0 + x**2) ** (0.3 * y)
    )


MIXED = (
    "exp(-0.3*x)*sin(2*y) + cos(x*y)/(1.5 + tanh(x)) + log(2 + x^2) + sqrt(1 + y^2) "
    "+ 0.1*tan(0.3*x) + 0.2*abs(x - 3)^3 + 2^(0.3*y) + (2 + x^2)^(0.3*y)"
)
"""The same in the language of the page."""


@cache
def loss_of(name: str) -> Loss:
    """A loss of the page; called where double precision is on."""
    made: dict[str, Callable[[], Loss]] = {
        "valley": lambda: potentials.SharpValley(0.01),
        "quartic": lambda: quartic,
        "product": lambda: potentials.ScalarProduct(2),
        "ring": lambda: potentials.Ring(1.0),
        "pits": lambda: potentials.GaussianPits(),
        "formula": lambda: mixed,
    }
    return made[name]()


MOMENTUM = 0.6
FRICTION = 1.5
VELOCITY = (0.5, -0.8)

STARTS: dict[str, tuple[float, float, float]] = {
    "valley": (0.1, 6.7, 0.3),
    "quartic": (0.3, 0.5, 1.0),
    "product": (2.2, 0.7, 0.4),
    "ring": (0.3, 0.9, 1.2),
    "pits": (0.6, -0.9, 0.25),
    "formula": (0.4, -0.7, 0.75),
}
"""Where derivatives and vector fields are compared, and the learning rate there, near the edge."""

RADII = {"valley": 0.05, "product": 0.1, "ring": 0.3, "pits": 0.3}
"""Of balls that touch at the start; that in the pits is dropped."""


def derivatives(loss: Loss, point: Point) -> list[float]:
    """L, Lx, Ly, Lxx, Lxy, Lyy, Lxxx, Lxxy, Lxyy, Lyyy."""

    @jax.jit
    def found(w: Point) -> Array:
        first = jax.grad(loss)
        second = jax.jacfwd(first)
        h, t = second(w), jax.jacfwd(second)(w)
        upper = [h[0, 0], h[0, 1], h[1, 1], t[0, 0, 0], t[0, 0, 1], t[0, 1, 1], t[1, 1, 1]]
        return jnp.stack([loss(w), *first(w), *upper])

    return found(point).tolist()


def contestants(name: str) -> Iterator[tuple[dict[str, Any], flows.AbstractFlow]]:
    """The flows of the page for a loss, each with what the page has to know of it."""
    rate = STARTS[name][2]
    descent, heavy = flows.GradientDescent(rate), flows.HeavyBall(rate, MOMENTUM)
    yield {"flow": "gradient"}, flows.GradientFlow(descent)
    yield {"flow": "gradient", "momentum": MOMENTUM}, flows.GradientFlow(heavy)
    yield {"flow": "corrected"}, flows.GradientFlow(descent, correction=True)
    yield {"flow": "corrected", "momentum": MOMENTUM}, flows.GradientFlow(heavy, correction=True)
    for rank in (1, 2):
        yield {"flow": "central", "rank": rank}, flows.CentralFlow(descent, rank)
        yield {"flow": "rod", "rank": rank}, flows.RodFlow(descent, rank, alignment=False)
        rod = flows.RodFlow(heavy, rank, alignment=False)
        yield {"flow": "rod", "rank": rank, "momentum": MOMENTUM}, rod
    yield {"flow": "parity"}, flows.ParityFlow(descent, 2, "split")
    yield {"flow": "parity", "momentum": MOMENTUM}, flows.ParityFlow(heavy, 2, "fit")
    velocity = jnp.asarray(VELOCITY)
    particle = flows.DissipativeFlow(1.0, flows.Viscous(FRICTION), velocity)
    yield {"flow": "mechanics", "friction": FRICTION, "velocity": VELOCITY}, particle
    if name in RADII:
        ball = flows.BallCentreFlow(flows.RollingBall(rate, RADII[name]), curvature=False)
        yield {"flow": "ball", "radius": RADII[name]}, ball


def numbers(state: Any) -> Array:
    """The part of a flow's state, or of its rate of change, that the page has too."""
    match state:
        case CentralFlowState():
            kept = state.params
        case BallCentreState():
            kept = (state.centre, state.height)
        case ParityState():
            kept = (state.centre, state.half_difference)
        case _:
            kept = state
    return ravel_pytree(kept)[0]


def start_of(name: str, flow: flows.AbstractFlow) -> Point:
    """Where a flow starts: over the start of its loss, for a ball in the pits."""
    point = jnp.asarray(STARTS[name][:2])
    if isinstance(flow, flows.BallCentreFlow) and name == "pits":
        return flows.drop(flow.optimizer, loss_of(name), point)
    return point


def field(name: str, flow: flows.AbstractFlow) -> dict[str, list[float]]:
    """The state in which a flow starts, and its vector field there."""
    # Made before anything is traced: it is kept.
    loss = loss_of(name)

    @eqx.filter_jit
    def found(flow: flows.AbstractFlow, start: Point) -> tuple[Array, Array]:
        state = flow.init(loss, start)
        return numbers(state), numbers(flow.vector_field(0.0, state, loss))

    start = start_of(name, flow)
    state, rate = found(flow, start)
    return {"start": start.tolist(), "state": state.tolist(), "field": rate.tolist()}


def path(name: str, flow: flows.AbstractFlow, steps: int) -> list[list[float]]:
    """The centre at the quarters of a run, integrated to `TOLERANCE`."""
    run = flows.simulate(
        flow,
        loss_of(name),
        start_of(name, flow),
        steps,
        save_every=steps // 4,
        solver=diffrax.Tsit5(),
        stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=1e-3 * TOLERANCE),
        measurements=(),
        # Where a segment ends the solver stops: nothing is interpolated.
        segment=1,
        max_solver_steps=1_000_000,
    )
    return np.asarray(run.params).tolist()


def iterates(name: str, optimizer: flows.AbstractOptimizer, steps: int) -> dict[str, Any]:
    """The iterates of an optimizer from where its loss starts."""
    start = jnp.asarray(STARTS[name][:2])
    if isinstance(optimizer, flows.RollingBall) and name == "pits":
        start = flows.drop(optimizer, loss_of(name), start)
    run = flows.iterate(optimizer, loss_of(name), start, steps=steps, measurements=())
    return {"start": start.tolist(), "path": np.asarray(run.params).tolist()}


LENGTHS = {"valley": 40, "ring": 20, "pits": 40}
"""Steps of the paths that are compared."""


def paths(name: str) -> Iterator[dict[str, Any]]:
    """Paths of a loss's flows: of all in the valley, elsewhere of the particle and the ball."""
    for about, flow in contestants(name):
        if name == "valley" or about["flow"] in ("mechanics", "ball"):
            start, found = start_of(name, flow).tolist(), path(name, flow, LENGTHS[name])
            yield {"loss": name, **about, "steps": LENGTHS[name], "start": start, "path": found}


def discrete(name: str) -> Iterator[dict[str, Any]]:
    """Paths of the discrete methods of a loss."""
    rate, steps = STARTS[name][2], LENGTHS[name]
    here = {"loss": name, "rate": rate}
    yield here | iterates(name, flows.GradientDescent(rate), steps)
    yield here | {"momentum": MOMENTUM} | iterates(name, flows.HeavyBall(rate, MOMENTUM), steps)
    # Where the steps are unstable, they magnify the last digits of a contact.
    ball = flows.RollingBall(rate / 2, RADII[name])
    about = {"loss": name, "rate": rate / 2, "radius": RADII[name]}
    yield about | iterates(name, ball, steps)


def tracking() -> dict[str, Any]:
    """Tracking errors on the valley from its usual start, which the page shows too."""
    rate, start, steps = 0.3, jnp.asarray([0.0, 6.0]), 600
    descent = flows.GradientDescent(rate)
    run = flows.iterate(descent, loss_of("valley"), start, steps=steps, measurements=())
    rod = flows.RodFlow(descent, 2, alignment=False)
    # The oscillation decays to 1e-10 before it grows, and Sigma is its square: far below the
    # default absolute tolerance, which puts the onset off by enough to be seen in the error.
    _, usual = rod.integrator(jnp.float64)
    assert isinstance(usual, diffrax.PIDController)
    tight = dataclasses.replace(usual, rtol=1e-8, atol=1e-20)
    errors = {}
    for about, flow, controller in (
        ("gradient", flows.GradientFlow(descent), None),
        ("rod", rod, tight),
        ("central", flows.CentralFlow(descent, 2), None),
    ):
        flown = flows.simulate(
            flow,
            loss_of("valley"),
            start,
            steps,
            stepsize_controller=controller,
            measurements=(),
        )
        errors[about] = float(flows.tracking_error(flown, run))
    return {"start": start.tolist(), "rate": rate, "steps": steps, "errors": errors}


def pits() -> dict[str, Any]:
    """The numbers of the default pits, which the page has to have."""
    default = potentials.GaussianPits()
    return {"centres": default.centres.tolist(), "shares": default.shares.tolist()}


def setting(name: str) -> dict[str, Any]:
    """A loss at the point where it is compared, with the formula where that is not the page's."""
    x, y, rate = STARTS[name]
    text = {"formula": MIXED} if name == "formula" else {}
    found = derivatives(loss_of(name), jnp.asarray([x, y]))
    return {"loss": name, **text, "point": [x, y], "rate": rate, "derivatives": found}


def fields(name: str) -> Iterator[dict[str, Any]]:
    """Vector fields of all flows of a loss."""
    for about, flow in contestants(name):
        yield {"loss": name, **about, **field(name, flow)}


def write(found: dict[str, Any]) -> None:
    """Write the reference, an entry a line."""
    parts = [
        f'"{part}": [\n' + ",\n".join(map(json.dumps, entries)) + "\n]"
        if isinstance(entries, list)
        else f'"{part}": {json.dumps(entries)}'
        for part, entries in found.items()
    ]
    REFERENCE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main() -> None:
    """Write both files."""
    PITS.write_text(json.dumps(pits()) + "\n")
    write(
        {
            "settings": [setting(name) for name in STARTS],
            "fields": [entry for name in STARTS for entry in fields(name)],
            "paths": [entry for name in LENGTHS for entry in paths(name)],
            "discrete": [entry for name in LENGTHS for entry in discrete(name)],
            "tracking": tracking(),
        }
    )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
