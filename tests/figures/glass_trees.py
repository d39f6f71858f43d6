"""Results trees of the studies of gradient glass and of Alice, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import tree

LEAVES = np.array(["first weights", "first biases", "output weights", "output biases"], object)
SIGMA = np.array([1e-3, 1e-2, 1e-1])
NUMBERS = np.array([10, 100, 1000])
STEPS = np.arange(4)
SHARES = np.array([0.1, 0.05])


def powers() -> xr.DataTree:
    """A made-up study of two activations, and of numbers of examples."""

    def part(label: str, *powers: float) -> xr.Dataset:
        values = SIGMA[:, None] ** np.array(powers)
        return xr.Dataset(
            {"squared_difference": (("sigma", "leaf"), values)},
            {"sigma": SIGMA, "leaf": LEAVES},
            {"label": label},
        )

    density = np.ones((3, 4)) / NUMBERS[:, None]
    counted = xr.Dataset(
        {"density": (("number", "leaf"), 1.1 * density), "exact": (("number", "leaf"), density)},
        {"number": NUMBERS, "leaf": LEAVES},
        {"label": "relu"},
    )
    return tree(
        {"title": "powers", "examples": 400},
        relu=part("relu", 1, 1, 3, 3),
        tanh=part("tanh", 4, 4, 4, 4),
        examples=counted,
    )


def alice() -> xr.DataTree:
    """A made-up study of paths, errors and decays."""
    models = np.array(["with momentum", "without momentum"], object)
    terms = np.array(["glass", "hessian", "both"], object)
    path = np.exp(-STEPS)[:, None] * np.array([1.0, -1.0])
    run = np.stack([path, 1.1 * path])
    decays = np.exp(-np.arange(1, 4)[:, None] * STEPS)
    return tree(
        {"title": "alice"},
        paths=xr.Dataset(
            {
                "discrete": (("step", "coordinate"), path),
                "flow": (("model", "step", "coordinate"), run),
            },
            {"model": models, "step": STEPS},
            {"share": 0.1},
        ),
        order=xr.Dataset(
            {"error": (("model", "share"), np.stack([SHARES, np.full(2, 0.3)]))},
            {"model": models, "share": SHARES},
        ),
        decay=xr.Dataset(
            {
                "discrete": (("term", "step"), decays),
                "flow": (("term", "step"), decays),
                "algebraic": ("step", 1 / (1.0 + STEPS)),
            },
            {"term": terms, "step": STEPS},
            {"share": 0.1},
        ),
    )


def digits() -> xr.DataTree:
    """A made-up study of two terms and two values of phi."""

    def part(rate: float) -> xr.Dataset:
        losses = np.exp(-rate * STEPS / SHARES[:, None])
        along = ("share", "step")
        return xr.Dataset(
            {
                "discrete": (along, losses),
                "flow": (along, 1.1 * losses),
                "ahead": (along, 2 * losses),
                "clipped": (along, losses / 2),
            },
            {"share": SHARES, "step": STEPS},
        )

    return tree({"title": "digits"}, glass=part(0.1), both=part(0.2))


GLASS = {"glass_powers": powers(), "alice_flow": alice(), "alice_digits": digits()}
