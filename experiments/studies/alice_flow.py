"""Alice beside its flow, with the momentum in the state and without; and the decays of its terms.

Off quadratics the gradient at the look-ahead differs from the one at the centre by an amount that
does not shrink with phi: the flow with m in its state is of first order in phi, and the one with
g(mu) in its place of none. On a quadratic both agree. There, with curvature in the model, the decay
is exponential, as Newton's; with glass only it is algebraic, x0 / (1 + t/tau).
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp
from ..tables.base import PositiveFloat
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_PATHS, _ORDER, _DECAY = "paths", "order", "decay"
# h and rho keep their values, so that the closed forms hold.
_KEPT = 1 - 1e-15
_START = (0.9, -0.6)
_POINTS = 31
# So much longer are the runs on a quadratic, which is far from the end for glass.
_LONGER = 4
_MODELS = ("with momentum", "without momentum")
_TERMS: dict[str, tuple[Literal["abs", "none"], bool]] = {
    "glass": ("none", True),
    "hessian": ("abs", False),
    "both": ("abs", True),
}


def _bent(params: "jax.Array") -> "jax.Array":
    """A loss of two parameters whose gradient is not affine."""
    return jnp.sum(jnp.log(jnp.cosh(2 * params))) + 0.2 * params[0] * params[1]


def _bowl(params: "jax.Array") -> "jax.Array":
    return 0.5 * jnp.sum(params**2)


class AliceFlows(AbstractStudy):
    """`kind = "alice_flow"`: Alice without a clip, with given glass, beside its flow.

    Attributes:
        density: rho of each parameter.
        horizon: Time in units of 1/phi: runs are horizon/phi steps long.
        shares: The phi = 1 - b1 at which the error is found; the path of the smallest is kept.
    """

    kind: Literal["alice_flow"]
    density: PositiveFloat = 1.0
    horizon: Annotated[float, pydantic.Field(ge=0.5, le=100)] = 3.0
    shares: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=1e-4, le=0.5)], ...],
        pydantic.Field(strict=False, min_length=2),
    ] = (0.1, 0.05, 0.025, 0.0125)

    figures = ("alice_flow",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The density of glass."""
        return {"density": self.density}

    @property
    def parts(self) -> tuple[str, ...]:
        """The paths, the errors over phi, and the decays on a quadratic."""
        return _PATHS, _ORDER, _DECAY

    def check(self) -> None:
        """Build an optimizer for each phi."""
        for share in self.shares:
            _method(share, "none", glass=True)

    def compute(self, part: str) -> Dataset:
        """Run Alice and flows."""
        compute = {_PATHS: self._paths, _ORDER: self._orders, _DECAY: self._decays}
        return compute[part]()

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give the orders in phi, and how well the closed form of the decay holds."""
        conclusions = []
        if _ORDER in parts:
            data = parts[_ORDER]
            for model, predicted in zip(_MODELS, (1.0, 0.0), strict=True):
                errors = data["error"].sel(model=model).values[-2:]
                ratio = np.log(data["share"].values[-2] / data["share"].values[-1])
                order = float(np.log(errors[0] / errors[1]) / ratio)
                conclusions.append(Conclusion(f"order of the flow {model}", order, predicted))
        if _DECAY in parts:
            data = parts[_DECAY]
            found = float(data["flow"].sel(term="glass")[-1])
            predicted = float(data["algebraic"][-1])
            conclusions.append(Conclusion("x at the end, glass only", found, predicted))
            found = float(data["flow"].sel(term="hessian")[-1])
            predicted = math.exp(-self.shares[0] * float(data["step"][-1]))
            conclusions.append(Conclusion("x at the end, Hessian only", found, predicted))
        return conclusions

    def _paths(self) -> Dataset:
        share = min(self.shares)
        times = self._times(share)
        method = _method(share, "none", glass=True)
        discrete, runs = self._run(method, _bent, jnp.array(_START), times)
        along = ("step", "coordinate")
        return dataset(
            {
                "discrete": (along, discrete, "parameter", "mu of Alice"),
                "flow": (("model", *along), runs, "parameter", "mu of the flow"),
            },
            {
                "model": ("model", np.array(_MODELS, object), "1", "which flow"),
                "step": ("step", times, "optimizer steps", "time"),
            },
            share=share,
        )

    def _orders(self) -> Dataset:
        errors = []
        for share in self.shares:
            method = _method(share, "none", glass=True)
            discrete, runs = self._run(method, _bent, jnp.array(_START), self._times(share))
            errors.append(np.linalg.norm(runs - discrete, axis=-1).max(1))
        return dataset(
            {
                "error": (
                    ("model", "share"),
                    np.array(errors).T,
                    "parameter",
                    "largest distance of the flow from mu",
                ),
            },
            {
                "model": ("model", np.array(_MODELS, object), "1", "which flow"),
                "share": ("share", np.array(self.shares), "1", "phi = 1 - b1"),
            },
        )

    def _decays(self) -> Dataset:
        share, start = self.shares[0], 1.0
        times = _LONGER * self._times(share)
        discrete, runs = [], []
        for hessian, glass in _TERMS.values():
            method = _method(share, hessian, glass=glass)
            path, run = self._run(method, _bowl, jnp.array([start]), times, (True,))
            discrete.append(path[:, 0])
            runs.append(run[0, :, 0])
        rate = share * 2 * math.pi / (3 * self.density) * start
        return dataset(
            {
                "discrete": (("term", "step"), discrete, "parameter", "x of Alice"),
                "flow": (("term", "step"), runs, "parameter", "x of the flow"),
                "algebraic": ("step", start / (1 + rate * times), "parameter", "closed form"),
            },
            {
                "term": ("term", np.array([*_TERMS], object), "1", "which terms of the model"),
                "step": ("step", times, "optimizer steps", "time"),
            },
            share=share,
        )

    def _times(self, share: float) -> np.ndarray:
        """Return whole numbers of steps from 0 to horizon/phi, of one shape if there are many."""
        return np.unique(np.round(np.linspace(0, self.horizon / share, _POINTS)))

    def _run(
        self,
        method: "flows.Alice",
        potential: "flows.Potential",
        start: "jax.Array",
        times: np.ndarray,
        momenta: tuple[bool, ...] = (True, False),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the path of the optimizer, and those of the flows with momentum and without."""
        given = jnp.full_like(start, self.density)
        runs = []
        for momentum in momenta:
            flow = flows.AliceFlow(method, momentum=momentum)
            state = dataclasses.replace(flow.init(potential, start), density=given)
            runs.append(_solved(flow, potential, state, times))
        longest = round(_LONGER * self.horizon / min(self.shares))
        path = _iterated(method, potential, start, given, longest)
        return path[times.astype(int)], np.stack(runs)


def _method(share: float, hessian: Literal["abs", "none"], *, glass: bool) -> "flows.Alice":
    return flows.Alice(1e-3, b1=1 - share, b2=_KEPT, hessian=hessian, glass=glass, clip="none")


def _iterated(
    method: "flows.Alice",
    potential: "flows.Potential",
    start: "jax.Array",
    density: "jax.Array",
    steps: int,
) -> np.ndarray:
    """Return mu of Alice with a given density of glass, (steps + 1, parameters)."""

    @eqx.filter_jit
    def run(method: "flows.Alice", start: "jax.Array", density: "jax.Array") -> "jax.Array":
        state = method.step(method.init(start), potential)
        state = dataclasses.replace(state, density=density)
        # The first step again, with this density.
        delta = method.displacement(state, 0.0)
        state = dataclasses.replace(
            state, params=start + method.share * delta, ahead=start + method.omega * delta
        )

        def one(state: "flows.AliceState", _: None) -> Any:
            return method.step(state, potential), state.params

        return jax.lax.scan(one, state, length=steps)[1]

    return np.concatenate([np.asarray(start)[None], np.asarray(run(method, start, density))])


def _solved(
    flow: "flows.AliceFlow", potential: "flows.Potential", state: Any, times: np.ndarray
) -> np.ndarray:
    """Return mu of a flow at some times, (times, parameters)."""
    import diffrax

    # Arrays, so that runs of other lengths are not compiled again.
    ts = jnp.asarray(times)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(flow.vector_field),
        diffrax.Tsit5(),
        ts[0],
        ts[-1],
        None,
        state,
        args=potential,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-13),
        max_steps=100_000,
    )
    assert solution.ys is not None
    return np.asarray(solution.ys.params)
