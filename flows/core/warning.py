"""Warnings that point at the user's line, however deep in this package they arise."""

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Final

import equinox
import jax
import jaxtyping


def _folder(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__).parent


# What lies between a user and the place of a warning: this package, and what wraps its methods.
_BETWEEN: Final = (
    str(Path(__file__).parents[1]),
    *(str(_folder(module)) for module in (equinox, jax, jaxtyping)),
    # Code that is made as the program runs, such as a dataclass's `__init__`.
    "<",
)


def warn_caller(message: str) -> None:
    """Warn with a UserWarning at the line from which this package was called.

    (From Python 3.12 on `warnings.warn` does so by its argument `skip_file_prefixes`.)

    Args:
        message: What is doubtful.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
