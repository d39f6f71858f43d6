"""The tables of adaptive methods, and of any optax transformation by its name."""

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

from ..system.text import show
from .base import BuildError, NonNegativeFloat, building
from .optimizers import OPTIMIZERS, AbstractOptimizerTable, optimizer_table
from .schedules import AbstractScheduleTable, LearningRate

if TYPE_CHECKING:
    import flows
    from flows.core.trees import Params

# A config gives one number for all entries of nu.
_KEYS = {"initial_nu": (NonNegativeFloat, 0.0)}

for _kind, _constructor, _label in (
    ("scalar_rmsprop", "flows.ScalarRMSProp", "2/eta"),
    ("rmsprop", "flows.RMSProp", "2/eta"),
    ("adam", "flows.Adam", "2(1 + beta1)/((1 - beta1) eta)"),
    ("adamw", "flows.AdamW", "(2 - eta lambda)(1 + beta1)/((1 - beta1) eta)"),
    ("nadam", "flows.NAdam", "2(1 + beta1)/((1 - beta1)(1 + 2 beta1) eta)"),
):
    OPTIMIZERS.add(
        optimizer_table(
            _kind,
            _constructor,
            critical_label=_label,
            critical_variable="preconditioned_sharpness",
            keys=_KEYS,
        )
    )


class OptaxTable(AbstractOptimizerTable):
    """`kind = "optax"`: `name`, as in `optax.adam` or `optax.contrib.muon`, and its arguments.

    Further keys are the arguments of that function; they are checked when it is called.
    """

    model_config = pydantic.ConfigDict(extra="allow")

    critical_label: ClassVar[str] = "numerical"
    decayed_label: ClassVar[str] = "numerical"
    # With a preconditioner that only the transformation knows.
    critical_variable: ClassVar[str] = ""
    batched: ClassVar[bool] = False

    kind: Literal["optax"]
    name: str
    learning_rate: LearningRate

    def build(self) -> "flows.AbstractOptimizer":
        """Build the optimizer.

        Raises:
            BuildError: If optax has no such function, or it refuses an argument.
        """
        import optax

        from flows import Schedule
        from flows.optimizers.optax_optimizer import as_optimizer

        make = _found(self.name)
        given = self.model_extra or {}
        accepted = inspect.signature(make).parameters
        if "learning_rate" not in accepted:
            message = f"given {show(self.name)}, which takes no learning rate; must be an optimizer"
            raise BuildError("name", message)
        for key, value in given.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BuildError(key, f"given {show(value)}; must be a finite number")
            if key not in accepted:
                known = ", ".join(name for name in accepted if name != "learning_rate")
                raise BuildError(key, f"no argument of optax.{self.name}; must be one of {known}")
        rate = self.learning_rate
        if isinstance(rate, AbstractScheduleTable):
            with building("learning_rate"):
                rate = Schedule(rate.build())
        try:
            made: Any = make(learning_rate=rate, **given)
        except Exception as error:
            # Whatever optax raises, the config it was called by is what there is to be seen.
            message = f"optax.{self.name} raised {type(error).__name__}: {error}"
            raise BuildError("name", message) from error
        if not isinstance(made, optax.GradientTransformation):
            message = f"given {show(self.name)}, which makes a {type(made).__name__}"
            raise BuildError("name", f"{message}; must make a gradient transformation")
        return as_optimizer(made)

    def start(
        self,
        optimizer: "flows.AbstractOptimizer",
        potential: "flows.Potential",
        params: "Params",
    ) -> "Params":
        """Start where the potential does.

        Raises:
            BuildError: If optax raises anything in a step from there, since some of its functions
                look at their arguments no earlier; or if the state cannot be kept in a checkpoint.
        """
        import jax
        import jax.numpy as jnp

        def moved(params: "Params") -> "Params":
            return optimizer.params(optimizer.step(optimizer.init(params), potential))

        try:
            jax.eval_shape(moved, params)
            state = jax.eval_shape(optimizer.init, params)
        except Exception as error:
            message = f"a step of optax.{self.name} raised {type(error).__name__}: {error}"
            raise BuildError("name", message) from error
        if any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(state)):
            message = (
                "keeps a random key in its state, which no checkpoint holds; use flows.iterate"
            )
            raise BuildError("name", f"given {show(self.name)}, which {message}")
        return params


OPTIMIZERS.add(OptaxTable)


def _found(name: str) -> Any:
    """The function of optax that a name names.

    Raises:
        BuildError: if there is none.
    """
    import optax
    import optax.contrib

    attribute = name.rpartition(".")[2]
    place = {attribute: optax, f"contrib.{attribute}": optax.contrib}.get(name)
    found = getattr(place, attribute, None)
    # Some are functions with arguments filled in, as `optax.nadam` is `optax.adam`.
    function = found.func if isinstance(found, functools.partial) else found
    if attribute.startswith("_") or not inspect.isfunction(function):
        message = 'must name an optimizer of optax, such as "adam" or "contrib.prodigy"'
        raise BuildError("name", f"given {show(name)}; {message}")
    return found
