"""Results trees of descent on manifolds, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import trajectory, tree


def descent() -> xr.DataTree:
    """A method on a manifold that reaches its threshold, 20, and its flow, which goes beyond."""
    steps = np.arange(0, 101, 2)
    rise = 10 + steps / 5

    def run(sharpness: np.ndarray) -> xr.Dataset:
        return trajectory(
            steps,
            loss=np.exp(-steps / 40),
            sharpness=sharpness,
            riemannian_sharpness=sharpness,
            constraint_drift=np.full(steps.shape, 1e-16),
        )

    attrs = {
        "title": "descent",
        "critical_sharpness": 20.0,
        "critical_variable": "riemannian_sharpness",
    }
    return tree(attrs, discrete=run(np.minimum(rise, 20)), riemannian=run(rise))


def edges() -> xr.DataTree:
    """A made-up study of the four problems."""
    rates, step = np.linspace(1.5, 3.0, 5), np.arange(4)
    angle = np.sqrt(np.maximum(rates - 2, 0))
    circle = xr.Dataset(
        {
            "angle": (
                ("retraction", "rate", "sample"),
                np.stack([angle, -angle], axis=-1)[None].repeat(2, axis=0),
            ),
            "predicted": (("retraction", "rate"), np.stack([angle, angle])),
        },
        {"retraction": np.array(["exponential", "normalisation"], object), "rate": rates},
    )
    mean = xr.Dataset(
        {
            "height": (("spread", "rate"), np.array([[0.0, 0.5], [0.0, np.nan]])),
            "threshold": ("spread", np.array([2.0, 1.0])),
        },
        {"spread": [0.1, 1.0], "rate": [0.5, 1.5]},
    )
    entries = np.stack([step, -step], axis=1).astype(float)
    toda = xr.Dataset(
        {
            "diagonal": (("step", "entry"), entries),
            "exact": (("step", "entry"), entries),
            "eigenvalue": ("entry", np.array([3.0, -3.0])),
        },
        {"step": step},
    )
    square = np.stack([1 + 0.1 * step, 1.0 + step])
    growth = xr.Dataset(
        {
            **dict.fromkeys(("discrete", "corrected", "flow"), (("rate", "step"), square)),
            "sharpness": (("rate", "step"), np.full((2, 4), 3.0)),
            "threshold": (("rate", "step"), 2 * square),
        },
        {"rate": [0.1, 0.5], "step": step},
    )
    return tree({"title": "edges"}, circle=circle, mean=mean, toda=toda, growth=growth)


def digits() -> xr.DataTree:
    """Two made-up runs, the second of which comes first in the order of names."""
    step = np.arange(5)

    def run(label: str, position: int) -> xr.Dataset:
        return xr.Dataset(
            {
                "loss": ("step", np.exp(-step)),
                "accuracy": ("step", 1 - np.exp(-step)),
                "riemannian_sharpness": ("step", 2.0 * step),
                "threshold": ("step", np.full(5, 4.0)),
            },
            {"step": step},
            {"label": label, "position": position, "learning_rate": 0.5},
        )

    return tree({"title": "digits"}, sgd=run("SGD, flat", 0), rgd=run("RGD, oblique", 1))


MANIFOLDS = {"manifolds": descent(), "manifold_edges": edges(), "manifold_digits": digits()}
"""The figures of descent on manifolds."""
