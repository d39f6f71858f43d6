"""How a run can end, as its store says."""

from collections.abc import Sequence

from .store import Store

FINISHED, DIVERGED, RUNNING, INTERRUPTED = "finished", "diverged", "running", "interrupted"
INCOMPLETE, FAILED = "incomplete", "failed"
ENDED = (FINISHED, DIVERGED)
"""Of a run that was brought to its end: going on would change nothing."""


def ending(messages: Sequence[str]) -> tuple[str, str]:
    """The status of a run, and its message.

    Args:
        messages: a sentence for each trajectory or part that stopped early.
    """
    return (DIVERGED if messages else FINISHED), "; ".join(messages)


def is_complete(store: Store) -> bool:
    """Whether a run was already brought to its end."""
    return store.attributes().get("status") in ENDED
