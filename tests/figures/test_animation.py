"""Figures that move."""

import itertools

import numpy as np
import pytest
from PIL import Image

import figures
from figures import animation
from tests.figures.trees import valley


def test_a_film_shows_the_path_up_to_each_step(tmp_path, monkeypatch):
    """A GIF of so many frames, the last one held, in which something moves."""
    monkeypatch.setattr(animation, "_STILL", 2)
    film = figures.animate("paths", valley(steps=40), tmp_path / "new" / "paths.gif", frames=3)
    with Image.open(film) as image:
        # Pillow joins equal frames into one that is shown for longer.
        assert image.n_frames == 3
        pictures, durations = [], []
        for frame in range(image.n_frames):
            image.seek(frame)
            pictures.append(np.asarray(image.convert("L")))
            durations.append(image.info["duration"])
    assert durations[-1] > 2 * durations[0]
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))


def test_frames_lie_where_the_iterates_move_and_alternate():
    """Of a thousand steps, most of a path that moves only from step 500 on to 600."""
    steps = np.arange(1001.0)
    there = np.where((steps >= 500) & (steps < 600), (-1.0) ** steps, 0.0)
    shown = np.asarray(animation._shown(steps, steps, np.stack([there, steps / 1e3], axis=1), 50))
    assert (shown[0], shown[-1]) == (0.0, 1000.0)
    assert np.mean((shown >= 500) & (shown < 600)) > 0.35
    assert (np.diff(shown[:-11]) % 2 == 1).all()


def test_what_cannot_be_a_film(tmp_path):
    """In a sentence."""
    with pytest.raises(ValueError, match="'loss' does not move; those that do: paths"):
        figures.animate("loss", valley(steps=2), tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"must end in .gif or .mp4"):
        figures.animate("paths", valley(steps=2), tmp_path / "a.png")
