"""Random configs derived from the schema: each runs, or is refused by a message that names a key.

A share of what `python -m tests.experiments.fuzz` goes through; EOSFLOWS_FUZZ=2000 makes it all.
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from experiments import ConfigError
from experiments.config.loader import validate
from experiments.tables import Experiment
from experiments.tables.optimizers import OPTIMIZERS
from tests.experiments.fuzz import collect, misbehaviour, untraceable

COUNT = int(os.environ.get("EOSFLOWS_FUZZ", "200"))
# So many of the valid ones are traced, and so many run: to compile each takes seconds.
TRACED = 8 if COUNT <= 200 else COUNT
RUN = 4 if COUNT <= 200 else COUNT


@pytest.fixture(scope="module")
def configs() -> list[dict[str, Any]]:
    """The random configs."""
    return collect(COUNT)


@pytest.fixture(scope="module")
def valid(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are right, without the studies."""
    return [config for config in configs if isinstance(_validated(config), Experiment)]


def _validated(config: dict[str, Any]) -> Any:
    """The validated config, or why it is none."""
    try:
        return validate(copy.deepcopy(config))
    except ConfigError as error:
        return error


def test_the_generator_tries_right_and_wrong_configs(
    configs: list[dict[str, Any]], valid: list[dict[str, Any]]
) -> None:
    """At least a fifth each, and every kind of optimizer and most kinds of potential."""
    assert COUNT / 5 < len(valid) < 4 * COUNT / 5
    assert len({config["optimizer"]["kind"] for config in valid}) == len(OPTIMIZERS.entries)
    assert len({config["potential"]["kind"] for config in valid}) > 10
    assert any(config.get("flows") for config in valid)
    assert any("study" in config for config in configs)


def test_wrong_configs_name_their_keys(configs: list[dict[str, Any]]) -> None:
    """Each problem its own, and no message is longer than a screen or two."""
    errors = [one for one in map(_validated, configs) if isinstance(one, ConfigError)]
    assert len(errors) > COUNT / 5
    assert [error for error in errors if not all(one.key for one in error.problems)] == []
    assert max(len(str(error)) for error in errors) < 10_000


def test_valid_configs_build_and_trace(valid: list[dict[str, Any]]) -> None:
    """Or say by key what they cannot be built of."""
    wrong = {index: untraceable(config) for index, config in enumerate(valid[:TRACED])}
    assert {index: text for index, text in wrong.items() if text} == {}


@pytest.mark.slow
def test_configs_run_or_name_a_key(
    configs: list[dict[str, Any]], valid: list[dict[str, Any]], tmp_path: Path
) -> None:
    """On the command line, two steps each; the wrong ones leave no folder without a reason."""
    wrong = [config for config in configs if config not in valid and "study" not in config]
    tried = [*wrong[: 5 * RUN], *valid[TRACED : TRACED + RUN]] if COUNT <= 200 else configs
    for index, config in enumerate(tried):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert misbehaviour(config, folder, ["--no-figures"]) == "", config
