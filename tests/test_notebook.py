"""What a user sees in a notebook: a real kernel runs a cell."""

from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

CELL = """
import jax.numpy as jnp
from flows import GradientDescent, iterate
bowl = lambda w: 0.5 * jnp.sum(w**2)
run = iterate(GradientDescent(0.1), bowl, jnp.ones(2), 40, segment=10, progress=True)
"""


@pytest.mark.slow
def test_a_bar_is_shown_in_a_notebook():
    """On standard error, which is no terminal there: one line, written over again to its end."""
    outputs = []
    manager, client = start_new_kernel(cwd=str(Path(__file__).parent.parent))
    try:
        reply = client.execute_interactive(CELL, timeout=300, output_hook=outputs.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    assert reply["content"]["status"] == "ok"
    streams = [one["content"] for one in outputs if one["msg_type"] == "stream"]
    assert {stream["name"] for stream in streams} == {"stderr"}
    first, *lines = "".join(stream["text"] for stream in streams).split("\r")
    assert first == ""
    # At most one for each segment; they may come too fast to be shown.
    assert 2 <= len(lines) <= 4
    assert lines[-1].startswith(f"GradientDescent {'#' * 30} 40/40 ")
    assert lines[-1].endswith("\n")
    # Each covers the one before.
    lengths = [len(line.removesuffix("\n")) for line in lines]
    assert lengths == sorted(lengths)
