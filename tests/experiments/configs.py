"""Small configs that the tests of this folder share."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments.config.loader import validate
from experiments.tables import Experiment

VALLEY: dict[str, Any] = {
    "name": "tiny-valley",
    "description": "a small run",
    "steps": 12,
    "potential": {"kind": "sharp_valley", "epsilon": 0.01, "start": [0.1, 6.0]},
    "optimizer": {"kind": "gradient_descent", "learning_rate": 0.3},
    "flows": [{"kind": "gradient", "label": "gradient_flow"}],
    "curvature": {"eigenvalues": 2},
    "checkpoint": {"every": 4},
    "figures": [],
}

# More than 512 parameters, where eigenvectors are iterated for from the last ones.
NETWORK: dict[str, Any] = {
    "name": "tiny-network",
    "steps": 12,
    "save_every": 2,
    "potential": {
        "kind": "supervised",
        "model": {"kind": "mlp", "hidden": [8]},
        "data": {"kind": "digits", "examples": 20},
    },
    "optimizer": {"kind": "gradient_descent", "learning_rate": 0.1},
    "flows": [{"kind": "gradient"}],
    "curvature": {"eigenvalues": 2, "every": 4},
    "checkpoint": {"every": 4},
    "figures": [],
}

DIVERGING: dict[str, Any] = {
    "name": "tiny-diverging",
    "steps": 40,
    "potential": {"kind": "quartic", "curvature": 2.0, "start": [0.5]},
    "optimizer": {"kind": "gradient_descent", "learning_rate": 4.0},
    "flows": [{"kind": "gradient", "label": "gradient_flow"}],
    "curvature": {"eigenvalues": 0},
    "checkpoint": {"every": 10},
    "figures": [],
}


def config(base: dict[str, Any] = VALLEY, **changes: Any) -> Experiment:
    """A small config with some of its top-level keys replaced."""
    loaded = validate({**base, **changes})
    assert isinstance(loaded, Experiment)
    return loaded


def write(path: Path, text: str) -> Path:
    """Write a file and give its path."""
    path.write_text(text, "utf-8")
    return path


def values(tree: xr.DataTree, group: str, name: str) -> np.ndarray:
    """A variable of a results tree as a numpy array."""
    return np.asarray(tree[group].to_dataset()[name].values)


CENTRAL: dict[str, Any] = {
    **VALLEY,
    "name": "tiny-central",
    "potential": {"kind": "sharp_valley", "epsilon": 0.01, "start": [0.1, 6.6]},
    "flows": [{"kind": "central", "label": "central_flow", "rank": 2}],
}

ROD: dict[str, Any] = {
    **VALLEY,
    "name": "tiny-rod",
    "potential": {"kind": "sharp_valley", "epsilon": 0.01, "start": [0.1, 6.6]},
    "flows": [{"kind": "rod", "label": "rod_flow", "rank": 2}],
}

STUDY: dict[str, Any] = {
    "name": "tiny-study",
    "figures": [],
    "study": {
        "kind": "central_scaling",
        "horizon": 0.3,
        "epsilons": [1e-2, 1e-3],
        "zetas": [0.0, 1.0],
        "energy_epsilon": 1e-3,
    },
}
