"""An optimizer that starts with the state that another one has after some steps."""

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, Float, PyTree

import flows
from flows.optimizers.adaptive import AbstractAdaptiveDescent


class ResumedOptimizer(flows.AbstractOptimizer):
    """The map of an optimizer, with a state in the middle of its run for a start.

    A flow that starts where its optimizer does starts there: with its momenta and averages. The
    step counters have to be known while a program is compiled, so that they are those of the
    optimizer's own start, `step` further on.

    Attributes:
        optimizer: The optimizer.
        point: Its state at `step`, with None in place of step counters.
        step_number: How many steps it has made.
    """

    optimizer: flows.AbstractOptimizer
    point: PyTree[Array]
    step_number: int = eqx.field(static=True)

    def init(self, params: PyTree[Array]) -> PyTree[Array]:
        """Return the state at `step_number`; of `params` only the structure is used."""
        counters = eqx.filter(self.optimizer.init(params), eqx.is_inexact_array, inverse=True)
        return eqx.combine(self.point, jax.tree.map(lambda c: c + self.step_number, counters))

    def step(self, state: PyTree[Array], potential: flows.Potential) -> PyTree[Array]:
        """Return the state after one step."""
        return self.optimizer.step(state, potential)

    def params(self, state: PyTree[Array]) -> PyTree[Array]:
        """Return the iterate."""
        return self.optimizer.params(state)

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """That of the optimizer."""
        return self.optimizer.critical_sharpness

    @property
    def cost(self) -> flows.Cost:
        """That of the optimizer."""
        return self.optimizer.cost


class _Later(eqx.Module):
    """A schedule from a later step on."""

    schedule: flows.Schedule
    steps: int = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return self.schedule(t + self.steps)


def resumed(
    optimizer: flows.AbstractOptimizer,
    potential: flows.Potential,
    params: PyTree[Array],
    steps: int,
) -> flows.AbstractOptimizer:
    """Run an optimizer from `params` for some steps, and return it as it is there.

    RMSProp stays what it is, so that flows made for it know it, with its average as the first one
    and its schedule moved; but with bias corrections, whose counter starts at 0 in every run.
    """

    @eqx.filter_jit
    def after(state: PyTree[Array], potential: flows.Potential) -> PyTree[Array]:
        return jax.lax.fori_loop(0, steps, lambda _, z: optimizer.step(z, potential), state)

    state = after(optimizer.init(params), potential)
    if isinstance(optimizer, AbstractAdaptiveDescent) and not optimizer.average.bias_correction:
        rate = optimizer.learning_rate
        if isinstance(rate, flows.Schedule):
            rate = flows.Schedule(_Later(rate, steps))
        return dataclasses.replace(optimizer, initial_nu=state.second_moment, learning_rate=rate)
    return ResumedOptimizer(optimizer, eqx.filter(state, eqx.is_inexact_array), steps)
