"""Draw a run's figures from its store."""

from collections.abc import Sequence
from pathlib import Path

import figures

from ..run_directory.directory import FIGURES, writing
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import DirectoryError


def outdated(directory: Path, names: Sequence[str]) -> list[str]:
    """Return which of some figures are missing, or older than the results.

    Args:
        directory: the run directory.
        names: of the figures.
    """
    written = (directory / RESULTS_FOLDER / "zarr.json").stat().st_mtime_ns
    files = {name: directory / FIGURES / f"{name}.png" for name in names}
    return [
        name
        for name, file in files.items()
        if not file.exists() or file.stat().st_mtime_ns < written
    ]


def draw_figures(directory: Path, names: Sequence[str]) -> list[str]:
    """Draw figures into the run directory's `figures/`, as PNG.

    Args:
        directory: the run directory.
        names: of the figures.

    Returns:
        A sentence for each figure that could not be drawn because the results lack its data.

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
                # In one step, for half a figure would count as drawn.
                temporary = folder / f".{name}.partial.png"
                figures.save(figure, temporary).replace(folder / f"{name}.png")
    return problems
