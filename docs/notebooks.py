"""Three pages as notebooks: their visible code in cells, which a kernel runs, and the text."""

import re
import time
from pathlib import Path

import execute

PAGES = {"start": "index.md", "own-loss": "own/loss.md", "store": "store.md"}
"""The notebooks by name, and the pages that they are made from."""

_TIMEOUT = 300


def notebook(name: str, source: str, finished: str) -> str:
    """Return a page as a notebook whose code a kernel has run.

    Args:
        name: The notebook's.
        source: The page.
        finished: The page with what its blocks printed, from `execute.run_page`.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbformat import v4

    cells = [
        v4.new_code_cell(text) if is_code else v4.new_markdown_cell(text)
        for is_code, text in _pieces(source, finished)
    ]
    made = v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    for number, cell in enumerate(made.cells):
        cell["id"] = f"{name}-{number}"
    # It warns that it has no encryption, which two processes of one build do not need.
    quiet = ["--Application.log_level=ERROR"]
    NotebookClient(made, timeout=_TIMEOUT, kernel_name="python3", extra_arguments=quiet).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return nbformat.writes(made)


def _pieces(source: str, finished: str) -> list[tuple[bool, str]]:
    """Return the cells of a page: True and the code, or False and text.

    The text between two visible blocks is that of the finished page, so that what hidden blocks
    print, tables and pictures, is in it. What visible blocks print is left out: the kernel says it.
    """
    pieces: list[tuple[bool, str]] = []
    rest = finished
    for block in execute.blocks_of(source):
        if block.options.get("source") != "above":
            continue
        before, shown, rest = rest.partition(f"```python\n{block.code}```\n")
        if not shown:
            raise ValueError(f"the block at line {block.line} is not in the finished page.")
        pieces += [(False, _portable(before)), (True, block.code.strip())]
        if block.options.get("result") == "text":
            rest = re.sub(r"\A\s*```text\n.*?\n```\n", "", rest, flags=re.DOTALL)
    pieces.append((False, _portable(rest)))
    return [(is_code, text) for is_code, text in pieces if text.strip()]


def _portable(text: str) -> str:
    """Return text whose links lead from site/notebooks to the site's pages."""
    text = re.sub(r"\[([^\]]+)\]\[(?:flows|potentials|experiments|figures)[\w.]*\]", r"`\1`", text)
    return re.sub(
        r"\]\((?!https?:)(?:\.\./)*([\w/-]+)\.md(#[\w-]+)?\)", r"](../\1.html\2)", text
    ).strip()


def write(page: str, pages: Path, sources: Path, folder: Path) -> list[str]:
    """Write the notebooks that are made from a page, if there are any.

    Args:
        page: The page's path in its folder.
        pages: Where the finished pages are.
        sources: Where the pages are as they were written.
        folder: Where the notebooks go.

    Returns:
        What failed, a report for each notebook.
    """
    from nbclient.exceptions import CellExecutionError

    failures = []
    for name in (name for name, source in PAGES.items() if source == page):
        started = time.monotonic()
        try:
            text = notebook(
                name, (sources / page).read_text("utf-8"), (pages / page).read_text("utf-8")
            )
        except CellExecutionError as error:
            failures.append(f"notebook {name}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.ipynb").write_text(text, "utf-8")
        print(f"{name}.ipynb: {time.monotonic() - started:.1f} s", flush=True)
    return failures
