"""Files that are written completely or not at all, whatever the moment of a crash."""

import contextlib
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, finds the old text or the new one."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, *pieces: bytes) -> None:
    """Replace a file as `write_text` does, by bytes that are on the disk when it returns."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    synchronise_folder(path.parent)


def synchronise_tree(path: Path, since: int = 0) -> None:
    """Wait until all that is in a folder, at any depth, is on the disk.

    Args:
        path: the folder.
        since: skip what was last written before this time, in nanoseconds since the epoch.
    """
    for folder, _, names in os.walk(path):
        for name in names:
            file_path = os.path.join(folder, name)
            if os.stat(file_path).st_mtime_ns >= since:
                with open(file_path, "rb") as file:
                    os.fsync(file.fileno())
        # The time of a folder is when a name was last added to it, removed or replaced.
        if os.stat(folder).st_mtime_ns >= since:
            synchronise_folder(Path(folder))


def synchronise_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    with contextlib.suppress(OSError):  # Not every file system can do this.
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
