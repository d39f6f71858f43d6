"""Draw a run's figures from its store."""

from collections.abc import Sequence
from pathlib import Path

import figures

from .directory import FIGURES, writing
from .errors import DirectoryError
from .store import load


def figure_names() -> tuple[str, ...]:
    """The names of all figures that there are."""
    return tuple(figures.FIGURES)


def draw_figures(directory: Path, names: Sequence[str]) -> list[str]:
    """Draw figures into the run directory's `figures/`, as PNG.

    Args:
        directory: the run directory.
        names: of the figures.

    Returns:
        A sentence for each figure that could not be drawn, because its data are not there.

    Raises:
        DirectoryError: if there are no results, or the folder cannot be written.
    """
    if not names:
        return []
    tree = load(directory)
    problems = []
    folder = directory / FIGURES
    if folder.is_symlink() and not folder.is_dir():
        raise DirectoryError(f"{folder}: is a link to {folder.readlink()}, which is no folder")
    with writing(directory):
        folder.mkdir(exist_ok=True)
        for name in names:
            try:
                figure = figures.draw(name, tree)
            except ValueError as error:
                problems.append(f"figure {name!r} was not drawn: {error}")
            else:
                figures.save(figure, folder / f"{name}.png")
    return problems
