"""Runs the blocks of code of the pages, and puts what they print into the pages.

The syntax is that of markdown-exec, so that it can take over:

    ```python exec="on" source="above" session="rod" result="text"

`source="above"` shows the code above its output; `result="text"` shows the output as it is,
`html="true"` takes it for HTML, and without either it is Markdown. Blocks of a session share their
variables. markdown-exec 1.12 itself is not used, for two reasons: under zensical 0.0.73 it runs all
blocks one after the other in one process, which takes twice as long as here, and a block that fails
is a warning in the log, which `zensical build --strict` does not count.
"""

import contextlib
import gc
import io
import re
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```python (?P<options>exec=.*)\n(?P<code>(?:.*\n)*?)```$", re.MULTILINE)
_OPTION = re.compile(r'(\w+)="([^"]*)"')
_ALLOWED = {"exec": {"on"}, "source": {"above"}, "result": {"text"}, "html": {"true"}}


class BlockError(Exception):
    """A block of code failed, or its options are not understood; the message names the page."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        code: What is run.
        options: Those of the fence, by name.
        line: The line of the page on which the code begins, from 1.
        span: Where the block stands in the page's text.
    """

    code: str
    options: dict[str, str]
    line: int
    span: tuple[int, int]


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page that are to be run.

    Raises:
        BlockError: If a fence has an option, or a value of one, that is not known.
    """
    found = []
    for match in _FENCE.finditer(text):
        options = dict(_OPTION.findall(match["options"]))
        line = text.count("\n", 0, match.start()) + 2
        for name, value in options.items():
            if name != "session" and value not in _ALLOWED.get(name, ()):
                raise BlockError(f"line {line - 1}: {name}={value!r} is no option of a block.")
        found.append(Block(match["code"], options, line, match.span()))
    if len(found) != len(re.findall(r"^```.*\bexec=", text, re.MULTILINE)):
        raise BlockError('a fence with exec= is not ```python exec="on" ..., or does not end.')
    return found


def run_page(path: Path) -> str:
    """Run the blocks of a page, and return its text with what they print.

    Double precision is on when a page begins, and a warning is an error, as in the tests.

    Args:
        path: The page; sessions are its own.

    Raises:
        BlockError: If a block fails.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    text = path.read_text("utf-8")
    sessions: dict[str, dict[str, Any]] = {}
    pieces, end = [], 0
    for block in blocks_of(text):
        name = block.options.get("session")
        variables = {} if name is None else sessions.setdefault(name, {})
        variables["__name__"] = "__main__"
        pieces += [text[end : block.span[0]], _shown(block, _run(block, variables, path))]
        end = block.span[1]
    return "".join([*pieces, text[end:]])


def _run(block: Block, variables: dict[str, Any], path: Path) -> str:
    """Run a block, whose traceback has the page's own lines."""
    printed = io.StringIO()
    code = "\n" * (block.line - 1) + block.code
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            exec(compile(code, str(path), "exec"), variables)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        raise BlockError(f"{path.name}, block at line {block.line}:\n{trace}") from None
    return printed.getvalue()


def _shown(block: Block, output: str) -> str:
    """Return what takes a block's place in the page."""
    source = f"```python\n{block.code}```\n" if block.options.get("source") == "above" else ""
    if not output.strip():
        return source
    if block.options.get("result") == "text":
        output = f"```text\n{output.rstrip()}\n```\n"
    return f"{source}\n{output.strip()}\n"


def run_group(paths: Iterable[Path]) -> list[str]:
    """Run pages one after the other, which share compiled programs, and overwrite each.

    Returns:
        What failed, a report for each page.
    """
    failures = []
    # As in the tests: looking through what tracing makes takes a tenth of the time.
    gc.set_threshold(200_000, 20, 100)
    # What the blocks write goes to a folder of their own.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for path in paths:
            started = time.process_time()
            try:
                path.write_text(run_page(path), "utf-8")
            except BlockError as error:
                failures.append(str(error))
            print(f"{path.name}: {time.process_time() - started:.1f} s of a core", flush=True)
    return failures
