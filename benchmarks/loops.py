"""`iterate` and `simulate` against the bare compiled loops that a user would write instead."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from flows import GradientDescent, GradientFlow, iterate, simulate

from .problems import LEARNING_RATE, demo_network
from .rows import Measured, row
from .timing import interleaved

# As many as the demo runs.
_STEPS = 1000


@row(
    "iterate",
    target=1.1,
    compares="iterate(GradientDescent) / compiled scan that saves params and loss, demo network",
)
def iterate_cost() -> Measured:
    """Compare the times from the call to the saved arrays, without compilation."""
    potential, params = demo_network()
    optimizer = GradientDescent(LEARNING_RATE)

    @jax.jit
    def bare(potential, params):
        def step(params, _):
            loss, gradient = jax.value_and_grad(potential)(params)
            following = jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, gradient)
            return following, (params, loss)

        return lax.scan(step, params, length=_STEPS + 1)

    times = interleaved(
        {
            "bare": lambda: bare(potential, params),
            "iterate": lambda: iterate(optimizer, potential, params, _STEPS),
        },
        repeats=25,
    )
    per_step = {f"{name} ms/step": 1e3 * t / _STEPS for name, t in times.items()}
    return Measured(times["iterate"] / times["bare"], per_step)


@row(
    "simulate",
    target=1.1,
    compares="simulate(GradientFlow), Tsit5 / jitted diffeqsolve, same field, tolerances and saves",
)
def simulate_cost() -> Measured:
    """Compare the times from the call to the saved parameters, losses and gradient norms."""
    potential, params = demo_network()
    flow = GradientFlow(GradientDescent(LEARNING_RATE))
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-7)
    dt0 = 0.5

    def saved(t, state, potential):
        del t
        loss, gradient = jax.value_and_grad(potential)(state.params)
        squares = [jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)]
        return state.params, loss, jnp.sqrt(sum(squares))

    def field(t, state, args):
        return flow.vector_field(t, state, args)

    @eqx.filter_jit
    def bare(potential, params):
        times = jnp.arange(_STEPS + 1.0)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=times[-1],
            dt0=dt0,
            y0=flow.init(potential, params),
            args=potential,
            saveat=diffrax.SaveAt(ts=times, fn=saved),
            stepsize_controller=controller,
            max_steps=100_000,
        )

    def ours():
        return simulate(flow, potential, params, _STEPS, stepsize_controller=controller, dt0=dt0)

    times = interleaved({"bare": lambda: bare(potential, params), "simulate": ours}, repeats=7)
    details = {f"{name} ms/step": 1e3 * t / _STEPS for name, t in times.items()}
    details["bare solver steps"] = float(bare(potential, params).stats["num_steps"])
    details["simulate solver steps"] = float(ours().stats["solver_steps"])
    return Measured(times["simulate"] / times["bare"], details)
