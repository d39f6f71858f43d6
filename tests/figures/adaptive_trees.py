"""Results trees of the studies of adaptive methods, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import trajectory, tree


def bursts() -> xr.DataTree:
    """A made-up study: one method bursts, and one that comes after it settles."""
    steps, settling = np.arange(5), np.arange(4)

    def part(label: str, rate: float) -> xr.Dataset:
        return xr.Dataset(
            {
                "deviation": ("step", 0.01 * np.exp(rate * steps)),
                "amplitude": ("settling_step", 1 + 0.5 * np.exp(rate * settling)),
                "sharpness_ratio": ("settling_step", 1 + 0.1 * rate * settling),
            },
            {"step": steps, "settling_step": settling},
            {
                "label": label,
                "growth": rate,
                "multiplier_growth": rate,
                "rod_growth": 1.1 * rate,
            },
        )

    return tree(
        {"title": "bursts"}, adam=part("Adam", 0.1), rmsprop=part("RMSProp, b2 = 0.9", -0.01)
    )


def thresholds() -> xr.DataTree:
    """A made-up study of two families, the first of which has the second position."""

    def part(label: str, position: int, **rows: tuple[float, float, str]) -> xr.Dataset:
        measured, predicted, reasons = zip(*rows.values(), strict=True)
        names, words = (np.array(list(texts), object) for texts in (rows, reasons))
        return xr.Dataset(
            {
                "measured": ("transformation", np.array(measured)),
                "predicted": ("transformation", np.array(predicted)),
            },
            {"transformation": names, "reason": ("transformation", words)},
            {"label": label, "position": position},
        )

    return tree(
        {"title": "thresholds"},
        none=part("none", 1, lion=(np.nan, np.nan, "jumps"), polyak=(np.inf, np.inf, "falls")),
        plain=part("plain", 0, sgd=(2.0, 2.0, ""), adam=(38.019, 38.0, "")),
    )


def edge() -> xr.DataTree:
    """An adaptive method that reaches its threshold, 40, and a flow that leaves it there."""
    steps = np.arange(0, 201, 2)
    rise = 10 * np.exp(steps / 60)

    def group(sharpness: np.ndarray, kind: str, **more: np.ndarray) -> xr.Dataset:
        return trajectory(
            steps,
            {"kind": kind},
            loss=np.exp(-steps / 100),
            sharpness=20 - steps / 20,
            preconditioned_sharpness=sharpness,
            effective_learning_rate=1e-3 * sharpness,
            **more,
        )

    attrs = {
        "critical_sharpness": 40.0,
        "critical_variable": "preconditioned_sharpness",
        "critical_label": "2/eta",
        "learning_rate": 0.05,
    }
    return tree(
        attrs,
        discrete=group(np.minimum(rise, 40 + np.cos(steps)), "rmsprop"),
        stable_flow=group(rise, "stable", distance=1e-3 * (1 + steps)),
    )
