"""What the pages' hidden blocks use: pictures, tables and commands, printed as HTML or Markdown."""

import base64
import contextlib
import html
import io
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli import main
from figures.sheet import color_of, new_figure, style
from flows import Trajectory

_DPI = 144
_LONG_LABEL = 25
_DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
ROOT = Path(__file__).resolve().parent.parent
"""The folder of the repository; the blocks themselves run in an empty one."""


def picture(figure: Figure, alt: str, caption: str) -> str:
    """Return a figure as HTML that needs no file beside the page.

    Args:
        figure: The figure; it is drawn on white, in the dark scheme too.
        alt: What is drawn, for readers who do not see it.
        caption: What one learns from it, below the figure; `code` between backticks.

    Raises:
        ValueError: If `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the picture shows.")
    buffer = io.BytesIO()
    # Indexed colours take a third of the bytes, and no reader sees the difference.
    with style(), matplotlib.rc_context({"savefig.facecolor": "white"}):
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    data = base64.b64encode(_indexed(buffer)).decode()
    below = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(caption))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{html.escape(alt)}"><figcaption>{below}</figcaption></figure>'
    )


def _indexed(buffer: io.BytesIO) -> bytes:
    from PIL import Image

    buffer.seek(0)
    small = io.BytesIO()
    image = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(small, "PNG", optimize=True)
    return small.getvalue()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; what is no text, and no whole number, has three digits."""
    lines = [headings, ["---"] * len(headings), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def command(line: str, *, code: int = 0) -> str:
    """Run a command line of eosflows as a reader would, and return it with what it printed.

    Args:
        line: As in a shell: `eosflows run valley --set steps=50`.
        code: The exit code that it must have.

    Raises:
        RuntimeError: If it has another.
    """
    name, *words = shlex.split(line, comments=True)
    if name != "eosflows":
        raise ValueError(f"only commands of eosflows run here, not {name!r}.")
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        got = main(words)
    shown = "\n".join(row.rstrip() for row in written.getvalue().splitlines())
    if got != code:
        raise RuntimeError(f"{line} ended with {got} in place of {code}:\n{shown}")
    return f"```console\n$ {line}\n{shown.strip()}\n```\n"


def valley(
    loss: Callable[[Any], Any],
    discrete: Trajectory,
    runs: Mapping[str, Trajectory],
    threshold: float,
) -> Figure:
    """Draw runs with two parameters: their paths over level sets, and their sharpness.

    Args:
        loss: A function of parameters of shape (2,).
        discrete: The optimizer's run.
        runs: The flows' runs by label.
        threshold: The critical sharpness.
    """
    sharpness = jax.jit(jax.vmap(lambda w: jnp.linalg.eigvalsh(jax.hessian(loss)(w))[-1]))
    with style():
        figure = new_figure(3.2)
        plane, over_time = figure.subplots(1, 2)
        colors = [color_of(position) for position in range(len(runs))]
        points = {"color": "0.35", "linestyle": "", "marker": "o", "markersize": 1.2}
        lines: list[tuple[str, Trajectory, dict[str, Any]]] = [("optimizer", discrete, points)]
        looks = zip(runs.items(), colors, _DASHES, strict=False)
        lines += [(name, run, {"color": c, "linestyle": d}) for (name, run), c, d in looks]
        for label, run, look in lines:
            path = np.asarray(run.params)
            plane.plot(path[:, 0], path[:, 1], label=label, **look)
            over_time.plot(run.steps, sharpness(run.params), **look)
        _level_sets(plane, loss)
        critical = over_time.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
        plane.set(xlabel="first parameter", ylabel="second parameter")
        over_time.set(xlabel="steps", ylabel="sharpness")
        handles, labels = plane.get_legend_handles_labels()
        figure.legend(
            [*handles, critical], [*labels, "critical sharpness"], loc="outside upper left", ncols=4
        )
    return figure


def curves(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    xlabel: str = "steps",
    *,
    log: bool = False,
    square: bool = False,
) -> Figure:
    """Draw curves in panels side by side, with one legend.

    Args:
        panels: For each label of a y axis, x and y of each curve by its name. A name that begins
            with "." or "+" is drawn as points or crosses, without that character.
        xlabel: The label of all x axes.
        log: True for logarithmic y axes.
        square: True for the same scale on both axes.
    """
    with style():
        figure = new_figure(2.9)
        names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
        shown: dict[str, Any] = {}
        for axes, (label, panel) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for name, (x, y) in panel.items():
                position = names.index(name)
                look = {"color": color_of(position), "linestyle": _DASHES[position % len(_DASHES)]}
                if name.startswith("."):
                    look = {"marker": "o", "markersize": 2.5, "linestyle": "", "color": "0.35"}
                if name.startswith("+"):
                    look |= {"marker": "+", "markersize": 6, "linestyle": ""}
                (shown[name.lstrip(".+")],) = axes.plot(x, y, **look)
            axes.set(xlabel=xlabel, ylabel=label)
            if log:
                axes.set_yscale("log")
            if square:
                axes.set_aspect("equal")
        columns = 3 if max(map(len, shown)) < _LONG_LABEL else 2
        figure.legend(list(shown.values()), list(shown), loc="outside upper left", ncols=columns)
    return figure


def _level_sets(axes: Axes, loss: Callable[[Any], Any]) -> None:
    """Draw level sets behind what is there, denser towards the lowest point."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = np.meshgrid(np.linspace(left, right, 80), np.linspace(bottom, top, 80))
    heights = np.asarray(jax.jit(jax.vmap(loss))(jnp.stack([x.ravel(), y.ravel()], axis=1)))
    levels = np.unique(np.quantile(heights, np.linspace(0.0, 1.0, 14) ** 1.5))
    axes.contour(
        x,
        y,
        heights.reshape(x.shape),
        levels,
        colors="0.85",
        linewidths=0.6,
        linestyles="solid",
        zorder=0,
    )
    axes.set(xlim=(left, right), ylim=(bottom, top))
