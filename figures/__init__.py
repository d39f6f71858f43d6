"""Figures of a results store: each takes an xarray DataTree and returns a matplotlib figure.

A figure reads only the tree and runs nothing, so that it can be redrawn from a store years later.
`FIGURES` maps a figure's name to its function. A new figure is one function with the decorator
`@figure(name, needs=...)` in a module of this package, or of a plugin; no list has to be edited.
"""

import importlib
from typing import TYPE_CHECKING, Any

from figures.registry import Needs, figure, known

if TYPE_CHECKING:
    from figures.animation import animate
    from figures.drawing import FIGURES, draw
    from figures.sheet import save, style
    from figures.together import several

__all__ = ["FIGURES", "Needs", "animate", "draw", "figure", "known", "save", "several", "style"]

# matplotlib and xarray are imported when something is drawn: names and needs do without them.
_LAZY = {
    "FIGURES": "drawing",
    "animate": "animation",
    "draw": "drawing",
    "save": "sheet",
    "several": "together",
    "style": "sheet",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
