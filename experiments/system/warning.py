"""Warnings on standard error."""

import rich.console


def warn(sentence: str) -> None:
    """Print a warning on standard error, which does not stop the run."""
    console = rich.console.Console(stderr=True, soft_wrap=True)
    console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)
