"""How users add kinds of their own: each function names a class or function for configs.

The table of a kind is derived from the signature: arguments that are annotated as (or have as
defaults) numbers, booleans, text, a `Literal` or a sequence of numbers become keys. A range may be
declared in the annotation, `Annotated[float, pydantic.Field(gt=0)]`; what the constructor refuses
with a ValueError is refused by file and key, too.

Call them in a file that `eosflows run --import FILE.py` names, or in a module that an installed
package offers as an entry point of the group `eosflows.plugins`.
"""

from typing import Any

from . import figures
from .constructors import Constructor
from .derived import built_table
from .flows import FLOWS, flow_table
from .kinds import Registry
from .measurements import MEASUREMENTS, AbstractMeasurementTable
from .optimizers import OPTIMIZERS, optimizer_table
from .potentials import POTENTIALS, potential_table
from .schedules import SCHEDULES, AbstractScheduleTable


def register_potential(kind: str, constructor: Constructor, *, network: bool = False) -> None:
    """Let configs have `[potential]` tables of a new kind.

    Args:
        kind: the value of `potential.kind`.
        constructor: a class, or a function, that returns the loss: a callable of the parameters
            with a method `init(key)` that draws a start. The key `start`, a list of all parameters,
            replaces what that draws.
        network: True if runs are of float32 by default, and do not store the parameters.

    Raises:
        ValueError: if there is a potential of this kind.
        TypeError: if the constructor has an argument without default that no config can give.

    Example:
        >>> import jax.numpy as jnp
        >>> from experiments import load_config, register_potential
        >>> class Saddle:
        ...     def __init__(self, steepness: float = 1.0):
        ...         self.steepness = steepness
        ...     def __call__(self, params):
        ...         return self.steepness * (params[0] ** 2 - params[1] ** 2)
        ...     def init(self, key):
        ...         return jnp.asarray([1.0, 1e-3])
        >>> register_potential("saddle", Saddle)
        >>> load_config("valley", ["potential={kind='saddle', steepness=2}"]).potential.steepness
        2.0
    """
    table = potential_table(kind, constructor, network=network, batched=False)
    _register(POTENTIALS, kind, constructor, table)


def register_optimizer(
    kind: str, constructor: Constructor, *, critical_label: str = "critical sharpness"
) -> None:
    """Let configs have `[optimizer]` tables of a new kind.

    Args:
        kind: the value of `optimizer.kind`.
        constructor: a class, or a function, that returns an optimizer of `flows` or an optax
            transformation; it has an argument `learning_rate`.
        critical_label: how the critical sharpness follows from the arguments, as in "2/eta".

    Raises:
        ValueError: if there is an optimizer of this kind.
        TypeError: if the constructor has no `learning_rate`, or an argument without default that no
            config can give.

    Example:
        >>> import optax
        >>> from experiments import load_config, register_optimizer
        >>> register_optimizer("rmsprop_of_optax", optax.rmsprop)
        >>> optimizer = "{kind='rmsprop_of_optax', learning_rate=0.01, decay=0.5}"
        >>> load_config("valley", [f"optimizer={optimizer}", "flows=[]"]).optimizer.decay
        0.5
    """
    table = optimizer_table(kind, constructor, critical_label=critical_label, batched=False)
    _register(OPTIMIZERS, kind, constructor, table)


def register_flow(kind: str, constructor: Constructor, *, solver: str = "default") -> None:
    """Let configs have `[[flows]]` tables of a new kind.

    Args:
        kind: the value of `flows[i].kind`, and by default its label.
        constructor: a class, or a function, that returns a `flows.AbstractFlow`. Its argument
            `optimizer`, if it has one, is the optimizer that is run.
        solver: the kind of `[flows.solver]` where a config names none; "default" is the flow's own.

    Raises:
        ValueError: if there is a flow of this kind.
        TypeError: if the constructor has an argument without default that no config can give.

    Example:
        >>> import flows
        >>> from experiments import load_config, register_flow
        >>> def corrected(optimizer: flows.AbstractOptimizer) -> flows.AbstractFlow:
        ...     return flows.GradientFlow(optimizer, correction=True)
        >>> register_flow("corrected", corrected)
        >>> [flow.label for flow in load_config("valley", ["flows=[{kind='corrected'}]"]).flows]
        ['corrected']
    """
    _register(FLOWS, kind, constructor, flow_table(kind, constructor, solver=solver))


def register_measurement(kind: str, constructor: Constructor) -> None:
    """Let configs have `[[measurements]]` tables of a new kind.

    Args:
        kind: the value of `measurements[i].kind`.
        constructor: a class, or a function, that returns a `flows.AbstractMeasurement`, which is
            made at each save of the discrete run and of every flow.

    Raises:
        ValueError: if there is a measurement of this kind.
        TypeError: if the constructor has an argument without default that no config can give.

    Example:
        >>> import jax.numpy as jnp
        >>> import flows
        >>> from experiments import load_config, register_measurement
        >>> def power(exponent: float = 2.0) -> flows.AbstractMeasurement:
        ...     def total(potential, params):
        ...         return jnp.sum(jnp.abs(params) ** exponent)
        ...     return flows.ScalarMeasurement("power", total, description="sum of powers")
        >>> register_measurement("power", power)
        >>> tables = "measurements=[{kind='power', exponent=4}]"
        >>> load_config("valley", [tables]).measurements[0].exponent
        4.0
    """
    table = built_table(AbstractMeasurementTable, kind, constructor)
    _register(MEASUREMENTS, kind, constructor, table)


def register_schedule(kind: str, constructor: Constructor) -> None:
    """Let configs have a new kind of schedule, as in `learning_rate = { kind = ... }`.

    Args:
        kind: the value of `learning_rate.kind`.
        constructor: a class, or a function, that returns a function of the step: of a float scalar,
            between whole steps too, that JAX can trace.

    Raises:
        ValueError: if there is a schedule of this kind.
        TypeError: if the constructor has an argument without default that no config can give.

    Example:
        >>> from experiments import load_config, register_schedule
        >>> def inverse_time(init_value: float, decay_steps: float = 100.0):
        ...     return lambda step: init_value / (1 + step / decay_steps)
        >>> register_schedule("inverse_time", inverse_time)
        >>> rate = "optimizer.learning_rate={kind='inverse_time', init_value=0.3}"
        >>> load_config("valley", [rate]).optimizer.learning_rate.decay_steps
        100.0
    """
    table = built_table(AbstractScheduleTable, kind, constructor)
    _register(SCHEDULES, kind, constructor, table)


def register_figure(name: str, draw: figures.Draw, *, needs: figures.Needs | None = None) -> None:
    """Let configs, and `eosflows figure`, ask for a new figure.

    Args:
        name: what a config's list `figures` calls it.
        draw: a function from the results, an `xarray.DataTree`, to a matplotlib `Figure`.
        needs: what a config must ask for so that the figure has its data; by default nothing.

    Raises:
        ValueError: if there is a figure of this name.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from experiments import load_config, register_figure
        >>> def draw(tree):
        ...     figure = Figure()
        ...     figure.add_subplot().plot(tree["discrete"]["loss"])
        ...     return figure
        >>> register_figure("just_the_loss", draw)
        >>> load_config("valley", ["figures=['just_the_loss']"]).figures
        ('just_the_loss',)
    """
    figures.register(_checked(name), draw, needs or figures.Needs())


def _register(
    registry: Registry[Any], kind: str, constructor: Constructor, table: type[Any]
) -> None:
    if not callable(constructor):
        raise TypeError(f"a {registry.concept} must be a class or a function; got {constructor!r}.")
    registry.register(_checked(kind), table)


def _checked(kind: str) -> str:
    if not isinstance(kind, str) or not kind.isidentifier() or not kind.isascii():
        message = "a kind must be a word of letters, digits and underscores; got"
        raise ValueError(f"{message} {kind!r}.")
    return kind
