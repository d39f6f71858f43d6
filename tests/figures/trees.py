"""Results trees made by hand, as `experiments` would store them."""

from typing import Any

import numpy as np
import xarray as xr

_UNITS = {
    "rod_half_lengths": "parameter",
    "half_difference": "parameter",
    "half_difference_length": "parameter",
    "iterate_distance": "parameter",
    "loss": "loss",
    "predicted_loss": "loss",
    "sharpness": "loss / parameter²",
    "eigenvalues": "loss / parameter²",
    "distance": "parameter",
    "params": "parameter",
    "midpoint_eigenvalues": "loss / parameter²",
    "watched_eigenvalues": "loss / parameter²",
    "variances": "parameter²",
    "measured_variances": "parameter²",
}
_DIMS = {
    "rod_half_lengths": ("step", "rod"),
    "eigenvalues": ("step", "mode"),
    "midpoint_eigenvalues": ("step", "mode"),
    "params": ("step", "parameter"),
    "watched_eigenvalues": ("step", "watched_mode"),
    "variances": ("step", "watched_mode"),
    "measured_variances": ("step", "watched_mode"),
}


def trajectory(steps: Any, attrs: dict[str, Any] | None = None, **variables: Any) -> xr.Dataset:
    """A trajectory's group: variables over `steps`, with units."""
    data = {
        name: (_DIMS.get(name, ("step",)), np.asarray(values), {"units": _UNITS.get(name, "1")})
        for name, values in variables.items()
    }
    return xr.Dataset(data, coords={"step": np.asarray(steps)}, attrs=attrs or {})


def tree(attrs: dict[str, Any] | None = None, **groups: xr.Dataset) -> xr.DataTree:
    """A results tree; underscores in a group's name stand for spaces."""
    named = {name.replace("_", " "): group for name, group in groups.items()}
    root = xr.Dataset(attrs={"name": "by-hand", "time_label": "step"} | (attrs or {}))
    return xr.DataTree.from_dict({"/": root} | named)


def valley(steps: int = 900, learning_rate: float = 0.3, every: int = 5) -> xr.DataTree:
    """Gradient descent and gradient flow on the sharp valley, curvature every few steps only.

    L(x, y) = 0.5 (y + x) x^2 - eps (x + y), eps = 0.01, from (0, 6).
    """

    def loss(x, y):
        return 0.5 * (y + x) * x**2 - 0.01 * (x + y)

    def step(w, rate):
        x, y = w
        return w - rate * np.array([(y + x) * x + 0.5 * x**2 - 0.01, 0.5 * x**2 - 0.01])

    def run(substeps):
        w, path = np.array([0.0, 6.0]), []
        for index in range(steps * substeps + 1):
            if index % substeps == 0:
                path.append(w)
            w = step(w, learning_rate / substeps)
        return np.array(path)

    def group(path, attrs, **more):
        x, y = path.T
        top = 0.5 * ((y + 3 * x) + np.sqrt((y + 3 * x) ** 2 + 4 * x**2))
        sharpness = np.where(np.arange(steps + 1) % every == 0, top, np.nan)
        eigenvalues = np.stack([sharpness, (y + 3 * x) - sharpness], axis=1)
        return trajectory(
            np.arange(steps + 1),
            attrs,
            loss=loss(x, y),
            sharpness=sharpness,
            eigenvalues=eigenvalues,
            params=path,
            **more,
        )

    discrete, flow = run(1), run(20)
    before, after = np.roll(discrete, 1, axis=0), np.roll(discrete, -1, axis=0)
    distance = np.linalg.norm(flow - (before + 2 * discrete + after) / 4, axis=1)
    distance[[0, -1]] = np.nan
    x0, x1 = np.linspace(-0.6, 0.6, 81), np.linspace(5.5, 9.0, 81)
    landscape = xr.Dataset(
        {"loss": (("x0", "x1"), loss(x0[:, None], x1[None, :]))},
        coords={"x0": x0, "x1": x1},
        attrs={"x0_name": "x", "x1_name": "y"},
    )
    return tree(
        {"title": "sharp valley", "learning_rate": 0.3, "critical_sharpness": 2 / learning_rate},
        discrete=group(discrete, {"kind": "optimizer", "label": "gradient descent"}),
        gradient=group(
            flow,
            {
                "kind": "flow",
                "flow_kind": "gradient",
                "label": "gradient",
                "tracking_error": 0.0123,
            },
            distance=distance,
        ),
        landscape=landscape,
    )


def central(steps: int = 200, critical: float = 10.0) -> xr.DataTree:
    """A made-up run at the edge of stability: one direction critical from step 50 on, one not.

    The measured variance of the critical direction jumps between 0 and twice the prediction.
    """
    step = np.arange(steps + 1)
    rise = np.minimum(5 + step / 10, critical)
    edge = step >= 50
    variance = np.stack([0.3 * edge, 0.0 * step], axis=1)
    samples = np.stack([0.6 * edge * (step % 2), 1e-9 * np.ones(steps + 1)], axis=1)
    wobble = rise + 0.2 * np.sin(step / 7) * edge
    far = np.full(steps + 1, 1.0)

    def flow(label: str, error: float) -> xr.Dataset:
        return trajectory(
            step,
            {"kind": "flow", "flow_kind": "central", "label": label, "tracking_error": error},
            loss=np.exp(-step / 100),
            predicted_loss=np.exp(-step / 100) + 0.03 * edge,
            distance=0.01 * step,
            watched_eigenvalues=np.stack([rise, 0.7 * rise, far], axis=1)[:, :2],
            variances=variance,
            measured_variances=samples,
        )

    return tree(
        {"title": "edge", "critical_sharpness": critical},
        discrete=trajectory(
            step,
            {"kind": "optimizer", "label": "discrete"},
            loss=np.exp(-step / 100) + 0.06 * edge * (step % 2),
            midpoint_loss=np.exp(-step / 100),
            midpoint_sharpness=wobble,
            midpoint_eigenvalues=np.stack([wobble, 0.7 * rise, far], axis=1),
        ),
        central=flow("central", 0.25),
        gradient=trajectory(
            step,
            {"kind": "flow", "flow_kind": "gradient", "label": "gradient", "tracking_error": 0.5},
            loss=np.exp(-step / 90),
            predicted_loss=np.exp(-step / 90),
            distance=0.02 * step,
        ),
    )


def scaling(power: float = 0.5) -> xr.DataTree:
    """A made-up study: deviations 2 epsilon^power, and rates that follow the law exactly."""
    deviations = {
        f"deviation-{epsilon:g}": xr.Dataset(
            attrs={"epsilon": epsilon, "largest_deviation": 2 * epsilon**power}
        )
        for epsilon in (1e-2, 1e-3, 1e-4)
    }
    energies = {
        f"energy-{zeta:g}": xr.Dataset(
            attrs={"zeta": zeta, "epsilon": 1e-5, "rate": 0.09 * (2 - 9 * zeta**2)}
        )
        for zeta in (0.0, 0.25, 0.5, 1.0)
    }
    return tree({"title": "scaling", "learning_rate": 0.3}, **deviations, **energies)


def rod(steps: int = 40, critical: float = 10.0) -> xr.DataTree:
    """A made-up run whose iterates are 0.5 apart, with two rods of lengths 0.15 and 0.2."""
    step = np.arange(steps + 1)
    ones = np.ones(steps + 1)
    flow = trajectory(
        step,
        {"kind": "flow", "flow_kind": "rod", "label": "rod", "tracking_error": 0.25},
        loss=np.exp(-step / 20),
        predicted_loss=np.exp(-step / 20) + 0.1,
        sharpness=10.5 * ones,
        # At the start it is where the optimizer is, but for a rounding error.
        distance=np.where(step == 0, 1e-16, 0.01 * step),
        rod_half_lengths=np.stack([0.2 * ones, 0.15 * ones], axis=1),
    )
    discrete = trajectory(
        step,
        {"kind": "optimizer", "label": "discrete"},
        loss=np.exp(-step / 20) + 0.2 * (step % 2),
        sharpness=10 + 0.5 * (-1.0) ** step,
        half_difference=0.25 * ones,
    )
    return tree({"title": "rods", "critical_sharpness": critical}, discrete=discrete, rod=flow)


def parity(steps: int = 40, critical: float = 10.0) -> xr.DataTree:
    """A made-up run with an oscillation of 0.25 that all flows predict, one of them from step 10.

    The central flow says so by the variances of two directions, the rod flow by two rods.
    """
    step = np.arange(steps + 1)
    ones = np.ones(steps + 1)
    central_flow = trajectory(
        step,
        {"kind": "flow", "flow_kind": "central", "label": "central", "tracking_error": 0.25},
        loss=np.exp(-step / 20),
        sharpness=critical * ones,
        distance=0.02 * (step + 1),
        variances=np.stack([0.04 * ones, 0.0225 * ones], axis=1),
    )
    later = step[10:]
    flow = trajectory(
        later,
        {
            "kind": "flow",
            "flow_kind": "parity",
            "label": "parity",
            "tracking_error": 0.0123,
            "iterate_error": 0.0234,
            "first_step": 10,
        },
        loss=np.exp(-later / 20),
        predicted_loss=np.exp(-later / 20) + 0.1,
        sharpness=critical + 0.1 * np.sin(later),
        half_difference_length=0.25 * ones[10:],
        distance=1e-4 * later,
        iterate_distance=2e-4 * later,
    )
    groups = rod(steps, critical)
    discrete = groups["discrete"].to_dataset()
    discrete["half_difference_length"] = ("step", 0.25 * (step > 0), {"units": "parameter"})
    return tree(
        {"title": "parity", "critical_sharpness": critical},
        discrete=discrete,
        rod=groups["rod"].to_dataset(),
        central=central_flow,
        parity=flow,
    )


def quartic() -> xr.DataTree:
    """A made-up study of the quartic, eta = 1 and Q = 2, which follows the formula throughout."""
    curvature = np.linspace(1.5, 3.5, 21)
    variance = np.maximum(curvature - 2, 0) / 2
    ends = np.sqrt(variance)
    groups = {
        "gradient_descent": {"iterates": (("curvature", "last"), np.stack([-ends, ends], axis=1))},
        "rod_flow": {"centre": ("curvature", 0 * ends), "variance": ("curvature", variance)},
        "gradient_flow": {"centre": ("curvature", 0 * ends)},
    }
    datasets = {
        name: xr.Dataset(variables, {"curvature": curvature}, {"label": name})
        for name, variables in groups.items()
    }
    root = xr.Dataset(attrs={"title": "quartic", "critical_sharpness": 2.0, "quartic": 2.0})
    return xr.DataTree.from_dict({"/": root} | datasets)


def panel() -> xr.DataTree:
    """A made-up panel of three cases and four flows, one of which fails and one does not apply."""
    cases, names, measures = (
        np.array(words.split(), object)
        for words in (
            "toy network momentum",
            "gradient central parity-2 parity-3",
            "tracking_error iterate_error peak_error",
        )
    )
    value = np.full((3, 4, 3), np.nan)
    value[:, :, 0] = [[12.3, 0.25, 6e-3, 1.1e-4], [0.5, 0.1, 3e-6, 0.02], [1.0, 0.3, 0.2, 0.99]]
    value[:, 2:, 1] = 2 * value[:, 2:, 0]
    outcome = np.full((3, 4), "done", object)
    outcome[0, 0], outcome[2, 1] = "failed", "does not apply"
    value[outcome != "done"] = np.nan
    table = xr.Dataset(
        {"value": (("case", "flow", "measure"), value), "outcome": (("case", "flow"), outcome)},
        {"case": cases, "flow": names, "measure": measures},
    )
    return tree({"title": "panel"}, table=table)


def held_out() -> xr.DataTree:
    """A made-up run of a classifier with held-out examples, and one flow of it."""
    step = np.arange(0, 40, 2)
    loss = np.exp(-step / 10)

    def group(attrs, factor):
        return trajectory(
            step,
            attrs,
            loss=loss * factor,
            test_loss=loss * factor + 0.1,
            accuracy=1 - loss / 2,
            test_accuracy=0.9 - loss / 2,
        )

    return tree(
        discrete=group({"kind": "optimizer"}, 1.0),
        gradient=group({"kind": "flow", "flow_kind": "gradient", "label": "gradient"}, 1.05),
    )
