"""Runs that are given more steps: they go on as if they had never ended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import DirectoryError
from experiments.config.loader import to_toml
from experiments.runs.tracks import Segment, Tracks
from tests.experiments.configs import VALLEY, config, write
from tests.experiments.runs import assert_same_results, quietly

# Nothing that takes long to compile.
BARE = {**VALLEY, "curvature": {"eigenvalues": 0}}


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """At which steps segments begin that are computed from now on."""
    noted: list[int] = []
    original: Callable[..., Segment] = Tracks.advance

    def advance(self: Tracks, *arguments: Any) -> Segment:
        noted.append(self.steps_done)
        return original(self, *arguments)

    monkeypatch.setattr(Tracks, "advance", advance)
    return noted


def checkpoints(path: Path) -> list[int]:
    """The steps of the checkpoints that are there, oldest first."""
    return sorted(int(file.stem[5:]) for file in (path / "checkpoint").iterdir())


FLOWS = [
    pytest.param(
        {
            **BARE,
            "optimizer": {"kind": "heavy_ball", "learning_rate": 0.1, "momentum": 0.5},
            "flows": [{"kind": "rod", "rank": 1}],
        },
        id="heavy-ball-rod",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {
            **BARE,
            "optimizer": {"kind": "nesterov", "learning_rate": 0.1, "momentum": 0.5},
            "flows": [
                {
                    "kind": "dissipative",
                    "gravity": 1.0,
                    "friction": {"kind": "viscous", "coefficient": 0.5},
                }
            ],
        },
        id="nesterov-dissipative",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        {
            **BARE,
            "potential": {"kind": "quadratic", "spectrum": [1.0], "start": [1.0]},
            "optimizer": {"kind": "rolling_ball", "learning_rate": 0.1, "radius": 0.5},
            "flows": [],
        },
        id="ball",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("base", FLOWS)
def test_a_finished_run_goes_on_for_more_steps_as_if_it_had_not_ended(
    base: dict[str, Any], tmp_path: Path
) -> None:
    """Bit for bit, for the optimizers and flows whose own tests do not resume them."""
    quietly(config(base, steps=8), tmp_path / "run")
    result = quietly(config(base, steps=12), tmp_path / "run", resume=True)
    assert result.status == "finished"
    quietly(config(base, steps=12), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_more_steps_go_on_from_the_last_checkpoint_that_a_longer_run_would_have(
    tmp_path: Path,
) -> None:
    """The end at step 6 was between two of them, and the interval stays, which is 1 by default."""
    quietly(config(BARE, steps=6), tmp_path / "run")
    longer = config({key: value for key, value in BARE.items() if key != "checkpoint"})
    assert longer.checkpoint.every != 4
    quietly(longer, tmp_path / "run", resume=True)
    quietly(config(BARE), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", tmp_path / "run")
    assert "every = 4" in (tmp_path / "run" / "config.toml").read_text()


def test_fewer_steps_and_another_interval_are_refused(tmp_path: Path) -> None:
    """What is stored is not taken back, and what was asked for is not dropped without a word."""
    quietly(config(BARE, steps=4), tmp_path)
    with pytest.raises(DirectoryError, match="steps was 4, is 3"):
        quietly(config(BARE, steps=3), tmp_path, resume=True)
    # By default it would be 1 for either number of steps.
    for steps in (4, 8):
        other = config(BARE, steps=steps, checkpoint={"every": 2})
        with pytest.raises(DirectoryError, match=r"checkpoint\.every was 4, is 2"):
            quietly(other, tmp_path, resume=True)


@pytest.mark.slow
def test_a_power_cut_after_the_config_was_lengthened_does_not_end_the_run(tmp_path: Path) -> None:
    """The config asks for more steps, the results say finished."""
    quietly(config(BARE, steps=4), tmp_path / "run")
    write(tmp_path / "run" / "config.toml", to_toml(config(BARE, steps=12)))
    quietly(config(BARE, steps=12), tmp_path / "run", resume=True)
    quietly(config(BARE, steps=12), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_run_lengthened_again_and_again_is_as_one_run_of_all_steps(
    begins: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each time it goes on from the last full interval, which the ends in between do not drop."""
    quietly(config(BARE, steps=8), tmp_path / "run")
    assert checkpoints(tmp_path / "run") == [4, 8]
    for steps in (9, 10, 11, 13):
        begins.clear()
        quietly(config(BARE, steps=steps), tmp_path / "run", resume=True)
        assert begins == ([8, 12] if steps == 13 else [8])
        # Two to go on from by a longer run, and the end.
        assert checkpoints(tmp_path / "run") == ([8, 12, 13] if steps == 13 else [4, 8, steps])
    assert not capsys.readouterr().err
    quietly(config(BARE, steps=13), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_lengthened_run_whose_newest_checkpoint_is_torn_goes_on_from_the_one_before(
    begins: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is the one of the last full interval, not the earlier end."""
    path = tmp_path / "run"
    quietly(config(BARE, steps=9), path)
    newest = path / "checkpoint" / "step-0000000008.ckpt"
    newest.write_bytes(newest.read_bytes()[:-10])
    begins.clear()
    quietly(config(BARE, steps=13), path, resume=True)
    assert begins == [4, 8, 12]
    said = " ".join(capsys.readouterr().err.split())
    assert f"{newest}: damaged (the checksum is wrong)" in said
    assert "goes on from step-0000000004.ckpt, the one before" in said
    quietly(config(BARE, steps=13), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", path)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_to_go_on_from_says_that_it_begins_again(
    begins: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended before an interval was done; what it wrote is not in the way of what comes."""
    quietly(config(BARE, steps=3), tmp_path)
    assert checkpoints(tmp_path) == [3]
    begins.clear()
    quietly(config(BARE, steps=8), tmp_path, resume=True)
    assert begins == [0, 4]
    said = " ".join(capsys.readouterr().err.split())
    assert "has no checkpoint to go on from, so the run begins again" in said
    assert checkpoints(tmp_path) == [4, 8]


@pytest.mark.parametrize(
    ("name", "says"), [("loss", "discrete/loss is damaged"), ("step", "not a")]
)
def test_a_run_with_a_torn_chunk_is_told_before_it_goes_on(
    name: str, says: str, begins: list[int], tmp_path: Path
) -> None:
    """Nothing is computed that could not be stored, and nothing that is there is changed."""
    base = {**BARE, "flows": []}
    quietly(config(base, steps=4), tmp_path)
    chunk = tmp_path / "results.zarr" / "discrete" / name / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:7])
    begins.clear()
    for _ in range(2):
        with pytest.raises(DirectoryError, match=f"results.zarr: {says}"):
            quietly(config(base, steps=8), tmp_path, resume=True)
    assert begins == []
    assert checkpoints(tmp_path) == [4]


@pytest.mark.slow
def test_the_command_that_lengthens_a_run_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an interrupt, though the config that is there has the steps and the interval by now."""
    longer = config({key: value for key, value in BARE.items() if key != "checkpoint"})
    quietly(config(BARE, steps=4), tmp_path / "run")
    original: Callable[..., Segment] = Tracks.advance

    def advance(self: Tracks, *arguments: Any) -> Segment:
        if self.steps_done == 8:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Tracks, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            quietly(longer, tmp_path / "run", resume=True)
    assert quietly(longer, tmp_path / "run", resume=True).status == "finished"
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("checkpoint.every stays 4") == 2
    assert "(for 12 steps it is 1 by default)" in said
    quietly(config(BARE), tmp_path / "whole")
    assert_same_results(tmp_path / "whole", tmp_path / "run")
