"""The sharpness at which gradient descent on a real network hovers, beside 2/eta."""

import numpy as np

import flows

from ..config.build import build, precision
from ..config.loader import load_config
from ..tables import Experiment
from .checks import Measured, checks

_EXPERIMENT = "digits-mlp"
_LEARNING_RATES = (0.12, 0.18, 0.24)
# A few measurements per swing of the sharpness about its mean.
_EVERY = 5
# The share of the run, its end, that is averaged over: long after the sharpness has risen.
_SHARE = 0.5


@checks(
    f"sharpness at which {_EXPERIMENT} hovers",
    paper="arXiv 2103.00065",
    equation="2/eta",
    tolerance=0.03,
    cases={f"eta = {rate:g}": (rate,) for rate in _LEARNING_RATES},
)
def network_at_the_edge(learning_rate: float) -> Measured:
    """Run the built-in experiment's gradient descent with another learning rate."""
    config = load_config(_EXPERIMENT, [f"optimizer.learning_rate={learning_rate!r}"])
    assert isinstance(config, Experiment)
    return hovering(config)


def hovering(config: Experiment) -> Measured:
    """Average the sharpness over the end of a config's discrete run, without its flows.

    Args:
        config: Of a run that is long enough for the sharpness to rise to the threshold.

    Returns:
        The average, beside the critical sharpness of the optimizer.
    """
    with precision(config.precision):
        built = build(config, config.name)
        run = flows.iterate(
            built.optimizer,
            built.potential,
            built.params,
            config.steps - config.steps % _EVERY,
            save_every=_EVERY,
            measurements=(flows.LossAndGradient(), flows.Curvature(1)),
        )
        sharpness = np.asarray(run.observables["sharpness"], dtype=float)
        hovers = sharpness[-round(_SHARE * sharpness.size) :].mean()
        return Measured(float(hovers), float(built.optimizer.critical_sharpness))
