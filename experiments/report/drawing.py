"""Draw a run's figures from its store."""

from collections.abc import Sequence
from pathlib import Path

import figures
from figures.together import check_draws_several

from ..config.loader import read_tables
from ..run_directory.directory import CONFIG, FIGURES, flat_keys, writing
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import DirectoryError
from ..system.text import show

# Keys that say nothing about what a run computes.
_NOT_TOLD = ("name", "description", "origin", "figures", "checkpoint")
_MOST_KEYS = 2


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


def draw_several(
    directories: Sequence[Path], names: Sequence[str], out: Path | None, film: str = ""
) -> list[Path]:
    """Draw figures of several runs in one, or films of one run or of several.

    Args:
        directories: the run directories.
        names: of the figures.
        out: a folder; by default `figures/` of the first directory.
        film: "gif" or "mp4" for films; empty for pictures.

    Returns:
        The files, `NAME-with-OTHERS.png`, of one run `NAME.gif`.

    Raises:
        ValueError: if a figure cannot be drawn; the message says why.
        DirectoryError: if there are no results, or the folder cannot be written.
    """
    together = load(directories[0])
    if len(directories) > 1:
        for name in names:
            check_draws_several(name)
        trees = dict(zip(labels_of(directories), map(load, directories), strict=True))
        together = figures.several(trees)
    folder = directories[0] / FIGURES if out is None else out
    others = "-".join(directory.resolve().name for directory in directories[1:])[:80]
    ending = f"-with-{others}.{film or 'png'}" if others else f".{film}"
    with writing(folder):
        if film:
            return [figures.animate(name, together, folder / f"{name}{ending}") for name in names]
        return [
            figures.save(figures.draw(name, together), folder / f"{name}{ending}") for name in names
        ]


def labels_of(directories: Sequence[Path]) -> list[str]:
    """Return what tells runs apart: the values of a few keys in which their configs differ.

    Those are the keys that all of them have, at most two; otherwise it is the directories' names.
    """
    flat = [flat_keys(read_tables(directory / CONFIG)[1]) for directory in directories]
    common = set(flat[0]).intersection(*flat)
    keys = [
        key
        for key in flat[0]
        if key in common
        and key.split(".")[0] not in _NOT_TOLD
        and any(one[key] != flat[0][key] for one in flat)
    ]
    labels = [", ".join(f"{_short(key, keys)} = {show(one[key])}" for key in keys) for one in flat]
    if not 0 < len(keys) <= _MOST_KEYS or len(set(labels)) < len(labels):
        labels = [directory.resolve().name for directory in directories]
    if len(set(labels)) < len(labels):
        labels = [str(directory) for directory in directories]
    return labels


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, if no other key ends in it."""
    last = key.rpartition(".")[2]
    return last if sum(one.rpartition(".")[2] == last for one in keys) == 1 else key


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
