"""What flows take beyond the gradients that they count: time over counted work."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jax.flatten_util import ravel_pytree

from flows import AbstractFlow, CentralFlow, GradientDescent, RodFlow, simulate

from .problems import descend, digits_network
from .rows import Measured, row
from .timing import interleaved


class _Case(NamedTuple):
    """What is measured for a number of parameters.

    Attributes:
        widths: Of a network on 500 digits.
        learning_rate: One whose edge lies a little above the sharpness at the start.
        before: How many steps are made before those that count.
        steps: How many count.
    """

    widths: tuple[int, ...]
    learning_rate: float
    before: int
    steps: int


_CASES = {
    "1e3": _Case((64, 14, 10), 0.1, 150, 400),
    "1e4": _Case((64, 96, 64, 10), 0.12, 150, 100),
    "1e5": _Case((64, 256, 256, 10), 0.06, 60, 20),
    "1e6": _Case((64, 960, 960, 10), 0.02, 10, 5),
}


def _overhead(flow_of: Callable[[GradientDescent], AbstractFlow], case: _Case) -> Measured:
    """Divide the time of a run that saves its end by that of the gradients that it counts."""
    potential, params = digits_network(case.widths, examples=500)
    flow = flow_of(GradientDescent(case.learning_rate))
    before, steps = case.before, case.steps
    state = simulate(flow, potential, params, before, save_every=before, measurements=()).state

    def run():
        return simulate(
            flow, potential, None, steps, state=state, save_every=steps, measurements=()
        )

    def descent():
        return descend(potential, params, steps, case.learning_rate)

    times = interleaved({"step": descent, "flow": run}, repeats=5)
    equivalents = float(run().stats["gradient_equivalents"]) / steps
    gradient = times["step"] / steps
    return Measured(
        times["flow"] / steps / gradient / equivalents,
        {
            "step ms": 1e3 * gradient,
            "flow ms": 1e3 * times["flow"] / steps,
            "gradient-equivalents per step": equivalents,
            "parameters": float(ravel_pytree(params)[0].size),
        },
    )


_FLOWS: dict[str, Callable[[GradientDescent], AbstractFlow]] = {
    "central": lambda optimizer: CentralFlow(optimizer, rank=3),
    "rod": lambda optimizer: RodFlow(optimizer, 2, alignment=False),
}
_TITLES = {"central": "CentralFlow(rank 3)", "rod": "RodFlow(rank 2)"}

for _name, _flow_of in _FLOWS.items():
    for _size, _case in _CASES.items():
        row(
            f"overhead-{_name}-{_size}",
            target=1.5,
            compares=f"time of {_TITLES[_name]} / of as many steps of gradient descent as it "
            f"counts gradients, P = {_size}",
        )(partial(_overhead, _flow_of, _case))
