"""`python -m benchmarks.accuracy [--out FILE.png] [--json FILE]`: error against cost.

A row of the table counts gradients at one tolerance. Here each flow that models gradient descent is
integrated at several, on two networks: the demo's on digits, and one that learns a Chebyshev
polynomial. The error is that of the solver in single precision, against the same flow in double
precision at a tenth of its own tolerance, relative to the distance travelled.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

import figures
from experiments.system.programs import make_room_for_programs
from figures.sheet import add_legend, color_of, new_figure, style
from flows import (
    AbstractFlow,
    CentralFlow,
    EdgeFlow,
    GradientDescent,
    GradientFlow,
    ParityFlow,
    RodFlow,
    SimulationError,
    simulate,
)
from flows.solvers.accuracy import scaled_controller
from potentials import MLP, SupervisedPotential, chebyshev, mse

from .problems import LEARNING_RATE, demo_network

# A divisor of the step at which parity flow begins.
_SAVE_EVERY = 10

# Of the flow's own tolerances.
_FACTORS = (10.0, 3.0, 1.0, 0.3, 0.1)
_REFERENCE = 0.1


class Problem(NamedTuple):
    """What the flows are integrated on.

    Attributes:
        title: What it is.
        make: Returns the potential and the start.
        learning_rate: That of gradient descent.
        rank: How many eigenvalues central flow watches.
        steps: How many steps of gradient descent the runs last.
    """

    title: str
    make: Callable[[], tuple[SupervisedPotential, PyTree[Array]]]
    learning_rate: float
    rank: int
    steps: int


def _chebyshev() -> tuple[SupervisedPotential, PyTree[Array]]:
    data, key = chebyshev(examples=20, degree=4), jax.random.key(0)
    potential = SupervisedPotential(MLP((1, 32, 32, 1), key=key), data.inputs, data.targets, mse)
    return potential, potential.init(key)


PROBLEMS = {
    # Beyond step 160 or so rounding sets in single precision when rods begin to oscillate.
    "digits": Problem("digits, P = 3466", demo_network, LEARNING_RATE, 5, 160),
    # Below the edge of stability, where nothing oscillates.
    "chebyshev": Problem("Chebyshev polynomial, P = 1153", _chebyshev, 0.2, 2, 200),
}


def flows_of(problem: Problem) -> dict[str, AbstractFlow]:
    """Return the flows by the names that the figure has for them."""
    optimizer = GradientDescent(problem.learning_rate)
    return {
        "gradient": GradientFlow(optimizer),
        "central": CentralFlow(optimizer, rank=problem.rank),
        "rod": RodFlow(optimizer, rank=2),
        "edge": EdgeFlow(optimizer),
        "parity": ParityFlow(optimizer),
    }


def _run(
    name: str, problem: Problem, made: tuple[SupervisedPotential, PyTree[Array]], factor: float
) -> tuple[Float[Array, "save parameter"], float]:
    """Return the saved centres of a run in the precision that JAX is set to, and what it cost."""
    flow = flows_of(problem)[name]
    potential, params = jax.tree.map(_in_precision, made)
    dtype = jax.tree.leaves(params)[0].dtype
    solver, controller = flow.economical(dtype) or flow.integrator(dtype)
    controller = scaled_controller(controller, factor, dtype)
    if isinstance(controller, diffrax.PIDController):
        # As arrays, so that the runs of a curve are one compiled program.
        tolerances = jnp.asarray(controller.rtol, dtype), jnp.asarray(controller.atol, dtype)
        controller = eqx.tree_at(lambda c: (c.rtol, c.atol), controller, tolerances)
    found = simulate(
        flow,
        potential,
        params,
        problem.steps,
        save_every=_SAVE_EVERY,
        measurements=(),
        solver=solver,
        stepsize_controller=controller,
    )
    cost = float(found.stats["gradient_equivalents"]) / problem.steps
    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(found.params), cost


def _in_precision(x: Array) -> Array:
    return x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x


def curve(name: str, problem: Problem) -> list[dict[str, float]]:
    """Return cost and error of a flow at each tolerance; without those at which the run fails.

    There are none if the run in double precision does.

    Args:
        name: The flow, as in `flows_of`.
        problem: What it is integrated on.
    """
    make_room_for_programs()
    made = problem.make()
    with jax.enable_x64(True):
        try:
            exact, _ = _run(name, problem, made, _REFERENCE)
        except SimulationError as error:
            print(f"{name}, reference: {error}", file=sys.stderr)
            return []
        exact = exact.astype(jnp.float32)
    travelled = jnp.max(jnp.linalg.norm(exact - exact[:1], axis=1))
    points = []
    for factor in _FACTORS:
        try:
            found, cost = _run(name, problem, made, factor)
        except SimulationError as error:
            print(f"{name} at {factor:g}: {error}", file=sys.stderr)
            continue
        error = jnp.max(jnp.linalg.norm(found - exact, axis=1)) / travelled
        make_room_for_programs()
        points.append({"tolerance": factor, "cost": cost, "error": float(error)})
    return points


def draw(curves: dict[str, dict[str, list[dict[str, float]]]], file: Path) -> None:
    """Draw a panel for each problem, with error against gradient-equivalents.

    Args:
        curves: Points by problem and flow, as `curve` returns them.
        file: Where to.
    """
    import xarray as xr

    markers = ("o", "s", "^", "D", "v")
    with style():
        figure = new_figure(3.2)
        panels = list(figure.subplots(1, len(curves), squeeze=False, sharey=True).flat)
        for axes, (name, flows) in zip(panels, curves.items(), strict=True):
            for i, (flow, points) in enumerate(flows.items()):
                costs, errors = ([p[key] for p in points] for key in ("cost", "error"))
                axes.loglog(costs, errors, color=color_of(i), marker=markers[i], label=flow)
            axes.axvline(1, color="0.45", linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
            axes.set_title(PROBLEMS[name].title)
            axes.set_xlabel("gradient-equivalents per optimizer step")
        panels[0].set_ylabel("solver error / distance travelled")
        title = "Cost of the flows' solvers by accuracy"
        add_legend(figure, xr.DataTree(xr.Dataset(attrs={"title": title})), panels, columns=5)
        figures.save(figure, file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all curves, write them, and return the exit code.

    Args:
        arguments: The words of the command line; those of `sys.argv` if not given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Draw the flows' error against their cost.",
    )
    parser.add_argument("--out", type=Path, default=Path("accuracy.png"), metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    options = parser.parse_args(arguments)
    curves: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, problem in PROBLEMS.items():
        curves[name] = {}
        for flow in flows_of(problem):
            curves[name][flow] = curve(flow, problem)
            for point in curves[name][flow]:
                print(
                    f"{name:10} {flow:9} tolerance x {point['tolerance']:<4g} "
                    f"{point['cost']:6.2f} a step, error {point['error']:.1e}",
                    flush=True,
                )
    draw(curves, options.out)
    if options.json is not None:
        options.json.write_text(json.dumps(curves, indent=2) + "\n", "utf-8")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
