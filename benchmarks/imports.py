"""What it costs to begin: an import, and the shortest command, in processes of their own."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from .rows import Measured, row

_ROOT = Path(__file__).parent.parent
_REPEATS = 5


def processor_times(**programs: str) -> dict[str, float]:
    """Run programs in fresh interpreters, in turn, and return the median processor time of each.

    Processor time, user and system, is what is left to compare where other processes keep the
    machine busy. The first run of each, which may compile modules to bytecode, is not counted.

    Args:
        programs: Python code by name.
    """
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(1 + _REPEATS):
        for name, code in programs.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-c", code],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            times[name].append(spent)
    return {name: statistics.median(spent[1:]) for name, spent in times.items()}


@row(
    "import-flows",
    target=1.25,
    compares="processor seconds of `import flows` / of `import diffrax, optax`",
)
def import_flows() -> Measured:
    """What flows adds to the libraries that it is built on."""
    spent = processor_times(flows="import flows", libraries="import diffrax, optax")
    return Measured(
        spent["flows"] / spent["libraries"], {f"{name} s": x for name, x in spent.items()}
    )


@row(
    "list",
    target=1.5,
    compares="processor seconds of `eosflows list` / of an interpreter that imports rich, cyclopts",
)
def list_experiments() -> Measured:
    """The command that everyone tries first needs no JAX."""
    spent = processor_times(
        command="from experiments.cli import main; main(['list'])", bare="import rich, cyclopts"
    )
    return Measured(spent["command"] / spent["bare"], {f"{name} s": x for name, x in spent.items()})
