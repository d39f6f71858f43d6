"""The figure `paths` as a film: iterates that bounce across a valley, with the flows' centres."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from matplotlib import animation
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import curves
from figures.registry import find
from figures.sheet import style

ANIMATED: Final = ("paths",)
"""The figures that there are as films."""

_FRAMES: Final = 120
_PER_SECOND: Final = 15
# The last frame is shown for so many more.
_STILL: Final = 10
# How many of the last iterates are joined by a line.
_TAIL: Final = 12
_DPI: Final = 100


def animate(name: str, tree: xr.DataTree, path: str | Path, *, frames: int = _FRAMES) -> Path:
    """Write a film of a figure to a file: a GIF, or an MP4 where ffmpeg is installed.

    The iterates are dots, of which the last twelve are joined; each flow is a line up to its
    centre, a square. Each frame is a step. A long run is shown slowly where the iterates move far;
    the steps between two frames are an odd number, so that the iterates of an oscillation are not
    always seen on the same side.

    Args:
        name: of the figure; "paths" is the one that moves.
        tree: the results, as for `draw`.
        path: where to write; the ending, `.gif` or `.mp4`, says what.
        frames: how many different frames there are at most.

    Returns:
        The path written to.

    Raises:
        ValueError: if the figure does not move, the results lack what it draws, the ending is
            another one, or there is no ffmpeg for an MP4.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import figures, xarray as xr
        >>> params = np.asarray([[1.0, 0.0], [-0.9, 0.1], [0.8, 0.2]])
        >>> run = xr.Dataset({"params": (("step", "parameter"), params)}, {"step": [0, 1, 2]})
        >>> x = np.linspace(-1, 1, 5)
        >>> bowl = xr.Dataset({"loss": (("x0", "x1"), x[:, None] ** 2 + x**2)}, {"x0": x, "x1": x})
        >>> tree = xr.DataTree.from_dict({"discrete": run, "landscape": bowl})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     film = figures.animate("paths", tree, f"{folder}/paths.gif", frames=2)
        ...     film.read_bytes()[:3]
        b'GIF'
    """
    path = Path(path)
    if name not in ANIMATED:
        raise ValueError(f"figure {name!r} does not move; those that do: {', '.join(ANIMATED)}")
    writer = _writer(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure = find(name)(tree)
        film = _Film(figure, tree, frames)
        # The layout is the same in every frame, and takes long to find.
        figure.set_dpi(_DPI)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        moving = animation.FuncAnimation(figure, film.show, film.steps, blit=False)
        try:
            moving.save(path, writer, dpi=_DPI)
        finally:
            # It would warn, when it is deleted, that it was never shown.
            moving._draw_was_started = True  # pyright: ignore[reportAttributeAccessIssue]
    return path


class _Film:
    """The moving parts of the figure `paths`: each path up to a step.

    Args:
        figure: the whole figure, whose lines are cut to what has happened.
        tree: the results.
        frames: how many different frames there are at most.
    """

    def __init__(self, figure: Figure, tree: xr.DataTree, frames: int):
        self._axes = figure.axes[0]
        self._parts: list[tuple[np.ndarray, np.ndarray, Line2D, Line2D, Line2D | None]] = []
        lines = {line.get_gid(): line for line in self._axes.get_lines()}
        every, discrete = [], (np.empty(0), np.empty((0, 2)))
        for group in curves.groups(tree):
            if f"{group}/params" not in lines:
                continue
            steps = np.asarray(tree[group].dataset["step"].values, dtype=float)
            data = tree[group].dataset["params"].transpose("step", "parameter")
            points = np.asarray(data.values)
            finite = np.isfinite(points).all(axis=1)
            line, end = lines[f"{group}/params"], lines[f"{group}/end"]
            tail = None
            if curves.is_discrete(tree, group):
                tail = self._tail(line)
                discrete = max(discrete, (steps[finite], points[finite]), key=_length)
            else:
                # Above the dots.
                line.set_zorder(4)
            self._parts.append((steps[finite], points[finite], line, end, tail))
            every.append(steps[finite])
        self._label = self._axes.text(
            0.02, 0.97, "", transform=self._axes.transAxes, verticalalignment="top", zorder=7
        )
        self._label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5})
        self._unit = str(tree.attrs.get("time_label", "step"))
        self.steps = _shown(np.unique(np.concatenate(every)), *discrete, frames)
        for legend in figure.legends:
            for text in legend.get_texts():
                text.set_text({"end": "now"}.get(text.get_text(), text.get_text()))

    def _tail(self, line: Line2D) -> Line2D:
        look: dict[str, Any] = {"color": line.get_color(), "linewidth": 0.9, "zorder": 4.5}
        (tail,) = self._axes.plot([], [], marker="o", markersize=4, **look)
        # What is older are dots, which show where the iterates have been.
        line.set(linestyle="none", alpha=0.22)
        return tail

    def show(self, step: float) -> list[Artist]:
        """Draw what has happened up to a step."""
        changed: list[Artist] = [self._label]
        for steps, points, line, end, tail in self._parts:
            count = int(np.searchsorted(steps, step, side="right"))
            line.set_data(*points[:count].T)
            end.set_data(*points[max(0, count - 1) : count].T)
            if tail is not None:
                tail.set_data(*points[max(0, count - _TAIL) : count].T)
                changed.append(tail)
            changed += [line, end]
        self._label.set_text(f"{self._unit} {step:g}")
        return changed


def _length(path: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.linalg.norm(np.diff(path[1], axis=0), axis=1).sum())


def _shown(steps: np.ndarray, moved_at: np.ndarray, points: np.ndarray, frames: int) -> list[float]:
    """Return the steps of the frames, and the last one for longer.

    Half of the frames are spread evenly over time, half over the length of the iterates' path.
    """
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    path = np.concatenate([[0.0], np.cumsum(lengths)]) if len(points) else np.zeros(1)
    gone = np.interp(steps, moved_at, path) if len(points) else np.zeros(len(steps))
    place = np.linspace(0, 1, len(steps)) + (gone / gone[-1] if gone[-1] > 0 else 0)
    wanted = np.linspace(0, place[-1], min(frames, len(steps)))
    rows: list[int] = []
    for row in np.searchsorted(place, wanted * (1 - 1e-12)):
        # As many steps apart that the parity changes.
        row += bool(rows) and (row - rows[-1]) % 2 == 0
        if row < len(steps) and (not rows or row > rows[-1]):
            rows.append(int(row))
    if rows[-1] != len(steps) - 1:
        rows.append(len(steps) - 1)
    return [float(steps[row]) for row in rows + rows[-1:] * _STILL]


def _writer(path: Path) -> animation.AbstractMovieWriter:
    if path.suffix == ".gif":
        return animation.PillowWriter(fps=_PER_SECOND)
    if path.suffix != ".mp4":
        raise ValueError(f"{path}: must end in .gif or .mp4")
    if not animation.FFMpegWriter.isAvailable():
        raise ValueError(f"{path}: an MP4 needs ffmpeg, which is not installed; a GIF does not")
    return animation.FFMpegWriter(fps=_PER_SECOND)
