"""Errors whose text is meant for the user: bad input, folders that cannot be used."""

import dataclasses
from collections.abc import Sequence

NO_HOME = "there is no home folder of that user (what a path begins with ~ for)"

MOST_SHOWN = 20
"""How many problems of one config a message lists; the others are counted."""


class UserError(Exception):
    """Something outside the program is wrong (input, a folder); the command line exits with 2."""


class DirectoryError(UserError):
    """A run directory or results store cannot be used as asked."""


class DamagedError(DirectoryError):
    """An earlier run cannot be resumed; it can be replaced."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a config: which key, what was given, what is allowed."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(UserError, ValueError):
    """A config that cannot be run. The message names the file, and for each problem the key.

    Args:
        source: the file (or other origin) of the config.
        problems: what is wrong with it, one entry per key.
    """

    source: str
    problems: tuple[Problem, ...]

    def __init__(self, source: str, problems: Sequence[Problem]):
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = f"{source}: {self.problems[0]}"
        else:
            shown = self.problems[:MOST_SHOWN]
            lines = "".join(f"\n  {problem}" for problem in shown)
            if len(self.problems) > MOST_SHOWN:
                lines += f"\n  and {len(self.problems) - MOST_SHOWN} more"
            text = f"{source}: {len(self.problems)} problems{lines}"
        super().__init__(text)
