"""Results trees of the rolling ball's studies, made by hand."""

import numpy as np
import xarray as xr

from tests.figures.trees import trajectory, tree


def ironing():
    """A made-up landscape and one ball on it."""
    x = np.linspace(0, 1, 21)

    def group(radius):
        return xr.Dataset(
            {
                "height": ("x", np.sin(9 * x) + radius),
                "landscape": ("x", np.sin(9 * x)),
                "minimum": ("minimum", [-1 + radius]),
                "path_height": ("time", [0.5, 0.2]),
                "path_x": ("time", [0.3, 0.4]),
            },
            {"x": x, "minimum_x": ("minimum", [0.5])},
            {"radius": radius},
        )

    return tree(rough=group(0.0), smooth=group(0.1))


def minima():
    """Counts that fall with the radius."""
    data = xr.Dataset(
        {"minima": ("radius", [100, 50, 5])}, {"radius": [0.0, 0.01, 0.1]}, {"label": "made up"}
    )
    return tree(one=data)


def pits():
    """Two straight paths in a bowl."""
    line = np.linspace(-1, 1, 11)
    ground = xr.Dataset(
        {"loss": (("x0", "x1"), line[:, None] ** 2 + line**2)}, {"x0": line, "x1": line}
    )
    path = np.linspace([-0.5, 0.5], [0.0, 0.0], 5)
    pair = xr.Dataset(
        {"centre": (("ball", "time", "parameter"), np.stack([path, path + 0.1]))},
        attrs={"radius": 0.1, "apart": 0.14},
    )
    return tree(ground=ground, pair=pair)


def unreachable():
    """Contacts that follow the formula."""
    product = np.linspace(0.5, 2, 7)
    contact = 0.5 * np.sqrt(np.maximum(product**2 - 1, 0)) / product
    data = xr.Dataset(
        {"contact": ("product", contact), "contacts": ("product", 1.0 + (product > 1))},
        {"product": product},
    )
    return tree({"radius": 0.5}, quadratic=data)


def limit():
    """Errors exactly proportional to the learning rate."""
    values = np.array([0.01, 0.02, 0.04])
    groups = {
        name: xr.Dataset({"error": (name, 3 * values)}, {name: values}, {"order": 1.0})
        for name in ("radius", "learning_rate")
    }
    root = xr.Dataset(attrs={"title": "limits"})
    return xr.DataTree.from_dict({"/": root} | groups)


def network():
    """Gradient descent, a ball and its flow."""
    steps = np.arange(5)
    loss = np.exp(-steps / 3.0)
    descent = {"radius": 0.0, "kind": "gradient_descent", "label": "gradient descent"}
    ball = {"radius": 0.1, "kind": "radius", "label": "radius = 0.1"}
    curve = {"loss": loss, "sharpness": 5 + loss}
    return tree(
        {"critical_sharpness": 20.0},
        descent=trajectory(steps, descent, **curve),
        ball=trajectory(steps, ball, **curve, radius_times_curvature=0.1 * loss),
        flow=trajectory(
            steps, {**ball, "kind": "flow"}, loss=loss, radius_times_curvature=0.1 * loss
        ),
    )


BALLS = {
    "ball_ironing": ironing(),
    "ball_minima": minima(),
    "ball_pits": pits(),
    "ball_unreachable": unreachable(),
    "ball_limit": limit(),
    "ball_network": network(),
}
