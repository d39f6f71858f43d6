"""What runs on a surface: optimizers and flows that do not start wherever they are put."""

import abc

import equinox as eqx

from .trees import Params


class AbstractConstrained(eqx.Module):
    """An optimizer or a flow whose parameters stay on a surface.

    `iterate` and `simulate` ask it where it starts, outside of compiled code.

    Example:
        >>> from flows import GradientDescent, RiemannianGradientDescent, Sphere
        >>> from flows.core.constrained import AbstractConstrained
        >>> isinstance(RiemannianGradientDescent(0.1, Sphere()), AbstractConstrained)
        True
        >>> isinstance(GradientDescent(0.1), AbstractConstrained)
        False
    """

    @abc.abstractmethod
    def admitted(self, params: Params) -> Params:
        """Return where a run starts: the given parameters, put on the surface with a warning.

        Raises:
            ValueError: If they cannot be put there in one way, or do not have its shape.
        """


def admitted(runner: object, params: Params) -> Params:
    """Return where an optimizer or a flow starts, given where the user puts it."""
    return runner.admitted(params) if isinstance(runner, AbstractConstrained) else params
