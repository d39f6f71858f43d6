"""What a retraction, curvature and scale do at the edge: four small problems on manifolds.

Descent on a circle beyond its edge, the mean of two points of the hyperbolic plane, Toda's lattice
as a flow of orthogonal matrices, and the norm of a network whose loss does not depend on it.
"""

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import flows, jax, jnp
from ..tables.base import PositiveFloat, Seed, building
from ..tables.supervised import SupervisedTable
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

if TYPE_CHECKING:
    from jaxtyping import Array

_RETRACTIONS = ("exponential", "normalisation")
# Iterates that are kept of a run on the circle, after it has settled.
_KEPT = 64
_STEPS = "optimizer steps"


class ManifoldEdges(AbstractStudy):
    """`kind = "manifold_edges"`: four problems on manifolds whose answers are known.

    Attributes:
        rates: How many rates on the circle, with eta times the sharpness from 1.5 to 6.
        spreads: How many distances of the two points from their mean, 0.1 to 3, and as many rates.
        settling: Steps until what is left is taken for the end.
        learning_rate: eta of Toda's flow.
        horizon: How many steps it takes.
        growth_rates: Learning rates of the network; the sphere is beyond its edge for large ones.
        growth_steps: How many steps the network is trained for.
        potential: The network and its data, as in an experiment.
        init_seed: Draws its weights.
    """

    kind: Literal["manifold_edges"]
    rates: Annotated[int, pydantic.Field(ge=2, le=1000)] = 181
    spreads: Annotated[int, pydantic.Field(ge=2, le=200)] = 40
    settling: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 1000
    learning_rate: PositiveFloat = 0.1
    horizon: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 60
    growth_rates: Annotated[
        tuple[PositiveFloat, ...], pydantic.Field(strict=False, min_length=1, max_length=3)
    ] = (0.05, 0.5)
    growth_steps: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 300
    potential: SupervisedTable
    init_seed: Seed = 0

    figures = ("manifold_edges",)

    @property
    def attributes(self) -> dict[str, Any]:
        """Nothing: the problems have rates of their own."""
        return {}

    @property
    def parts(self) -> tuple[str, ...]:
        """The four problems."""
        return ("circle", "mean", "toda", "growth")

    def check(self) -> None:
        """Build the network on its data."""
        with building("potential"):
            _ = self._network

    def compute(self, part: str) -> Dataset:
        """Compute one of the problems."""
        return getattr(self, f"_{part}")()

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give what each problem shows in a number or two, beside what theory says."""
        found = []
        if "circle" in parts:
            data = parts["circle"]
            for name in _RETRACTIONS:
                one = data.sel(retraction=name)
                # Nearer to the edge descent takes longer to settle.
                stable = np.isfinite(one["predicted"].values) & (one["rate"].values > 2.05)
                if not stable.any():
                    continue
                gap = np.abs(
                    np.abs(one["angle"].values[stable]).T - one["predicted"].values[stable]
                )
                found.append(
                    Conclusion(f"circle, {name}: largest error of the cycle", float(gap.max()), 0.0)
                )
        if "mean" in parts:
            data = parts["mean"]
            # Far beyond the edge descent escapes to infinity.
            left = ~(data["height"].values < 1e-3)
            ratio = data["rate"].values[None, :] / data["threshold"].values[:, None]
            clear = np.abs(ratio - 1) > 0.03
            share = float(np.mean((left == (ratio > 1))[clear]))
            found.append(
                Conclusion(
                    "hyperbolic mean: share on the right side of the edge, 3 % off", share, 1.0
                )
            )
        if "toda" in parts:
            data = parts["toda"]
            error = float(np.abs(data["diagonal"] - data["exact"]).max())
            found.append(Conclusion("Toda: largest error of the flow's entries", error, 0.0))
            last = float(data["spectrum_error"].max())
            found.append(Conclusion("Toda: largest change of an eigenvalue", last, 0.0))
        if "growth" in parts:
            data = parts["growth"]
            for rate in data["rate"].values:
                one = data.sel(rate=rate)
                grown = [float(one[v][-1] / one[v][0]) for v in ("discrete", "corrected")]
                quantity = f"growth of the squared norm, eta = {rate:g}, and of the corrected flow"
                found.append(Conclusion(quantity, *grown))
        return found

    def _circle(self) -> Dataset:
        """Descend the squared sine of the angle; keep where the iterates are in the end."""
        rates = np.linspace(1.5, 6.0, self.rates)

        def ends(retraction: str, rate: "Array") -> "Array":
            method = flows.RiemannianGradientDescent(rate, flows.Sphere(), retraction)
            state = method.init(jnp.asarray([np.cos(0.3), np.sin(0.3)]))

            def loss(w: "Array") -> "Array":
                return 0.5 * w[1] ** 2

            settled = jax.lax.fori_loop(0, self.settling, lambda _, s: method.step(s, loss), state)
            _, points = jax.lax.scan(
                lambda s, _: (method.step(s, loss), s.params), settled, length=_KEPT
            )
            return jnp.arctan2(points[:, 1], points[:, 0])

        angles = [
            np.asarray(jax.jit(jax.vmap(functools.partial(ends, name)))(jnp.asarray(rates)))
            for name in _RETRACTIONS
        ]
        return dataset(
            {
                "angle": (
                    ("retraction", "rate", "sample"),
                    np.stack(angles),
                    "radians",
                    "angle of the last iterates, from the minimum",
                ),
                "predicted": (
                    ("retraction", "rate"),
                    np.stack([_cycle(name, rates) for name in _RETRACTIONS]),
                    "radians",
                    "angle of the two-cycle where it is stable, by theory; 0 below the edge",
                ),
            },
            {
                "retraction": ("retraction", np.array(_RETRACTIONS, object), "1", "which map"),
                "rate": ("rate", rates, "1", "learning rate times sharpness"),
            },
            label="circle",
        )

    def _mean(self) -> Dataset:
        """Find the mean of two points by descent, for many distances and rates."""
        spreads, rates = np.linspace(0.1, 3.0, self.spreads), np.linspace(0.5, 2.2, self.spreads)
        space = flows.Hyperboloid()

        def height(spread: "Array", rate: "Array") -> "Array":
            signs = jnp.asarray([1.0, -1.0])
            points = jnp.stack(
                [jnp.full(2, jnp.cosh(spread)), signs * jnp.sinh(spread), jnp.zeros(2)], axis=1
            )

            def loss(w: "Array") -> "Array":
                return 0.25 * sum((space.squared_distance(w, x) for x in points), jnp.zeros(()))

            method = flows.RiemannianGradientDescent(rate, space)
            start = method.init(space.nearest(jnp.asarray([1.0, 0.02, 0.05])))
            end = jax.lax.fori_loop(0, self.settling, lambda _, s: method.step(s, loss), start)
            return jnp.abs(jnp.arcsinh(end.params[2]))

        each = jax.vmap(jax.vmap(height, (None, 0)), (0, None))
        return dataset(
            {
                "height": (
                    ("spread", "rate"),
                    np.asarray(jax.jit(each)(jnp.asarray(spreads), jnp.asarray(rates))),
                    "1",
                    "distance of the last iterate from the mean, across the line of the points",
                ),
                "threshold": (
                    "spread",
                    2 * np.tanh(spreads) / spreads,
                    "1",
                    "rate above which the mean is unstable, 2 tanh(r)/r",
                ),
            },
            {
                "spread": ("spread", spreads, "1", "distance of each point from the mean, r"),
                "rate": ("rate", rates, "1", "learning rate"),
            },
            label="mean of two points",
        )

    def _toda(self) -> Dataset:
        """Simulate Brockett's flow from a tridiagonal matrix, and Toda's lattice by QR."""
        size = 4
        matrix = np.diag([0.2, 1.0, -0.6, 0.4]) + np.diag([0.7, 0.5, 0.9], 1)
        matrix = matrix + np.triu(matrix, 1).T
        first, weights = jnp.asarray(matrix), jnp.arange(1.0, size + 1)

        def loss(x: "Array") -> "Array":
            return -0.5 * jnp.sum(jnp.diagonal(x.T @ first @ x) * weights)

        method = flows.RiemannianGradientDescent(self.learning_rate, flows.Stiefel())
        flow = flows.RiemannianFlow(method)
        run = flows.simulate(flow, loss, jnp.eye(size), self.horizon, measurements=())
        lattice = np.asarray(jax.vmap(lambda x: x.T @ first @ x)(run.params))
        exact = []
        for step in range(self.horizon + 1):
            power = jax.scipy.linalg.expm(-self.learning_rate * step * first / 2)
            q = np.linalg.qr(np.asarray(power))[0]
            exact.append(np.diagonal(q.T @ matrix @ q))
        changes = np.linalg.eigvalsh(lattice) - np.linalg.eigvalsh(matrix)
        return dataset(
            {
                "diagonal": (
                    ("step", "entry"),
                    np.diagonal(lattice, axis1=1, axis2=2),
                    "1",
                    "diagonal of X^T A X along the flow",
                ),
                "exact": (("step", "entry"), np.stack(exact), "1", "the same by the QR algorithm"),
                "eigenvalue": ("entry", np.linalg.eigvalsh(matrix), "1", "eigenvalues of A"),
                "spectrum_error": (
                    "step",
                    np.abs(changes).max(axis=1),
                    "1",
                    "largest change of an eigenvalue of X^T A X",
                ),
            },
            {"step": ("step", np.arange(self.horizon + 1), _STEPS, "time")},
            label="Toda lattice",
        )

    def _growth(self) -> Dataset:
        """Train a network whose loss does not depend on the norm of its weights."""
        loss, start = self._network
        every = max(self.growth_steps // 50, 1)
        saved = np.arange(0, self.growth_steps + 1, every)
        squares: dict[str, list[np.ndarray]] = {"discrete": [], "corrected": [], "flow": []}
        sharpness = []
        on_sphere = flows.RiemannianCurvature(flows.Sphere())
        for rate in self.growth_rates:
            optimizer = flows.GradientDescent(rate)
            run = flows.iterate(optimizer, loss, start, self.growth_steps, measurements=())
            iterates = run.params[saved]
            squares["discrete"].append(np.sum(np.asarray(iterates) ** 2, axis=1))
            units = iterates / jnp.linalg.norm(iterates, axis=1, keepdims=True)
            measured, _ = flows.measure(on_sphere, loss, units)
            sharpness.append(np.asarray(measured["riemannian_sharpness"]))
            for name, correction in (("corrected", True), ("flow", False)):
                flow = flows.GradientFlow(optimizer, correction=correction)
                path = flows.simulate(flow, loss, start, self.growth_steps, measurements=())
                squares[name].append(np.sum(np.asarray(path.params[saved]) ** 2, axis=1))
        rates, along = np.asarray(self.growth_rates), ("rate", "step")
        texts = {
            "discrete": "gradient descent",
            "corrected": "corrected gradient flow",
            "flow": "gradient flow",
        }
        return dataset(
            {
                **{
                    name: (
                        along,
                        np.stack(squares[name]),
                        "parameter^2",
                        f"squared norm of the weights along {text}",
                    )
                    for name, text in texts.items()
                },
                "sharpness": (
                    along,
                    np.stack(sharpness),
                    "loss",
                    "sharpness of the loss on the unit sphere, along gradient descent",
                ),
                "threshold": (
                    along,
                    2 * np.stack(squares["discrete"]) / rates[:, None],
                    "loss",
                    "the sharpness at which descent on the sphere turns unstable, 2 q/eta",
                ),
            },
            {
                "rate": ("rate", rates, "parameter^2 / loss", "learning rate"),
                "step": ("step", saved, _STEPS, "time"),
            },
            label="scale-invariant network",
        )

    @functools.cached_property
    def _network(self) -> "tuple[flows.Potential, Array]":
        """The loss of a network as a function of the weights' direction, and the weights."""
        from jax.flatten_util import ravel_pytree

        loss = self.potential.build().potential
        flat, unravel = ravel_pytree(loss.init(jax.random.key(self.init_seed)))
        size = jnp.linalg.norm(flat)
        return lambda w: loss(unravel(size * w / jnp.linalg.norm(w))), flat


def _cycle(retraction: str, rates: np.ndarray) -> np.ndarray:
    """The angle of the two-cycle where it is stable, 0 below the edge, else nan."""
    ratio = 2 / np.maximum(rates, 2)
    if retraction == "normalisation":
        return np.arccos(ratio) / 2
    # sin(x)/x = 2/rate by bisection.
    low, high = np.zeros_like(ratio), np.full_like(ratio, np.pi)
    for _ in range(60):
        middle = (low + high) / 2
        above = np.sinc(middle / np.pi) > ratio
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(rates < np.pi, np.where(rates > 2, low / 2, 0), np.nan)
