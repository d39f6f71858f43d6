"""How a run can end, as its store says."""

from collections.abc import Sequence

from .store import Store

FINISHED, DIVERGED, RUNNING, INTERRUPTED = "finished", "diverged", "running", "interrupted"
INCOMPLETE, FAILED = "incomplete", "failed"
ENDED = (FINISHED, DIVERGED)
"""The statuses of a run that has ended, so that resuming it computes nothing."""


def ending(messages: Sequence[str]) -> tuple[str, str]:
    """The status of a run, and its message.

    Args:
        messages: a sentence for each trajectory or part that stopped early.
    """
    return (DIVERGED if messages else FINISHED), "; ".join(messages)


def is_complete(store: Store) -> bool:
    """True if the run has ended."""
    return store.attributes().get("status") in ENDED
