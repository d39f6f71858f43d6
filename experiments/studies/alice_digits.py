"""Which term of Alice's model matters on handwritten digits, with a ReLU network.

The same start and data, with glass, with the size of the Hessian's rows, or with both; each
optimizer beside its flow. A step that the clip cuts is decided by neither term: how many are is
found too, and how high the look-ahead at nu lands: a gradient from far up stays in the average of
squares for 1/(1 - b2) steps, which shortens the clip in the manner of Adam, and so Alice's steps,
but not those of its flow.
"""

import functools
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ..system.lazy import eqx, flows, jax, jnp, potentials
from ..tables.base import PositiveFloat
from .fields import Once
from .study import AbstractStudy, Conclusion, Dataset, Parts
from .variables import dataset

_TERMS: dict[str, tuple[Literal["abs", "none"], bool]] = {
    "glass": ("none", True),
    "hessian": ("abs", False),
    "both": ("abs", True),
}
Term = Literal["glass", "hessian", "both"]


class AliceDigits(AbstractStudy):
    """`kind = "alice_digits"`: Alice with each term, and its flow, on the digits.

    Attributes:
        terms: Which terms of the model, each a part.
        shares: The values of phi.
        learning_rate: Of Alice: the length of its probes, and half of what the clip allows.
        clip: The scale of the bounds.
        lr_max: The bound over its scale; left out, twice the learning rate.
        b2: The share that averages keep.
        probes: How many.
        width: Of the hidden layer.
        examples: How many.
        steps: How long the runs are.
        seed: Of the weights.
    """

    kind: Literal["alice_digits"]
    terms: Annotated[tuple[Term, ...], pydantic.Field(strict=False, min_length=1), Once] = (
        "glass",
        "hessian",
        "both",
    )
    shares: Annotated[
        tuple[Annotated[float, pydantic.Field(gt=0, lt=2)], ...],
        pydantic.Field(strict=False, min_length=1),
        Once,
    ] = (0.1, 1.0)
    learning_rate: PositiveFloat = 5e-3
    clip: Literal["adam", "sgdm", "fixed"] = "adam"
    lr_max: PositiveFloat | None = None
    b2: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.99
    probes: Annotated[int, pydantic.Field(ge=1, le=1000)] = 1
    width: Annotated[int, pydantic.Field(ge=1, le=1000)] = 16
    examples: Annotated[int, pydantic.Field(ge=1, le=1797)] = 200
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 150
    seed: Annotated[int, pydantic.Field(ge=0, le=2**31)] = 0

    figures = ("alice_digits",)

    @property
    def attributes(self) -> dict[str, Any]:
        """The learning rate and the number of examples."""
        return {"learning_rate": self.learning_rate, "examples": self.examples}

    @property
    def parts(self) -> tuple[str, ...]:
        """One part per term."""
        return self.terms

    def check(self) -> None:
        """Build the optimizers."""
        for term in self.terms:
            for share in self.shares:
                self._method(term, share)

    def compute(self, part: str) -> Dataset:
        """Run Alice and its flow with each phi."""
        potential, params = self._problem()
        losses, heights, clipped, modelled = [], [], [], []
        for share in self.shares:
            method = self._method(part, share)
            loss, height, cut = _iterated(method, potential, params, self.steps)
            losses.append(np.asarray(loss))
            heights.append(np.asarray(height))
            clipped.append(np.asarray(cut))
            modelled.append(np.asarray(self._flow_loss(method, potential, params)))
        along = ("share", "step")
        return dataset(
            {
                "discrete": (along, losses, "loss", "loss at mu of Alice"),
                "ahead": (
                    along,
                    heights,
                    "loss",
                    "loss at nu of Alice, where the gradient is taken",
                ),
                "flow": (along, modelled, "loss", "loss at mu of the flow"),
                "clipped": (along, clipped, "1", "share of parameters whose step the clip cuts"),
            },
            {
                "share": ("share", np.array(self.shares), "1", "phi"),
                "step": ("step", np.arange(self.steps + 1), "optimizer steps", "time"),
            },
            label=part,
        )

    def conclude(self, parts: Parts) -> list[Conclusion]:
        """Give the losses at the end and the highest at nu, and how many steps the clip cut."""
        conclusions = []
        for part, data in parts.items():
            for share in data["share"].values:
                one, name = data.sel(share=share), f"{part}, phi = {share:g}"
                end, flow = float(one["discrete"][-1]), float(one["flow"][-1])
                conclusions.append(Conclusion(f"{name}: loss at the end", end))
                conclusions.append(Conclusion(f"{name}: loss of the flow at the end", flow, end))
                highest = float(one["ahead"].max())
                conclusions.append(Conclusion(f"{name}: highest loss at nu", highest))
                cut = float(one["clipped"].mean())
                conclusions.append(Conclusion(f"{name}: share of steps that are clipped", cut))
        return conclusions

    def _problem(self) -> "tuple[potentials.SupervisedPotential, Any]":
        data = potentials.load_digits(examples=self.examples)
        width = data.inputs[0].size
        network = potentials.MLP(
            (width, self.width, data.targets.shape[-1]), "relu", key=jax.random.key(self.seed)
        )
        potential = potentials.SupervisedPotential(
            network, data.inputs, data.targets, potentials.cross_entropy
        )
        # float32 halves the time, and the probes are long.
        params = jax.tree.map(lambda x: x.astype(jnp.float32), potential.params)
        return potential, params

    def _method(self, term: str, share: float) -> "flows.Alice":
        hessian, glass = _TERMS[term]
        return flows.Alice(
            self.learning_rate,
            b2=self.b2,
            phi=share,
            hessian=hessian,
            glass=glass,
            clip=self.clip,
            lr_max=self.lr_max,
            probes=self.probes,
            sample_every=1,
        )

    def _flow_loss(
        self, method: "flows.Alice", potential: "potentials.SupervisedPotential", params: Any
    ) -> Any:
        import diffrax

        # A constant step: the gradient jumps, and an adaptive one would look for each boundary.
        run = flows.simulate(
            flows.AliceFlow(method),
            potential,
            params,
            self.steps,
            solver=diffrax.Heun(),
            stepsize_controller=diffrax.ConstantStepSize(),
            dt0=0.5,
        )
        return run.observables["loss"]


def _iterated(
    method: "flows.Alice", potential: "potentials.SupervisedPotential", params: Any, steps: int
) -> "tuple[jax.Array, jax.Array, jax.Array]":
    """Return the loss at mu and at nu, and the share of clipped steps, after 0, 1, ... steps."""

    @functools.partial(eqx.filter_jit)
    def run(method: Any, params: Any) -> Any:
        free = eqx.tree_at(lambda m: m.lr_max, method, jnp.asarray(1e30), is_leaf=_is_none)

        def one(state: Any, _: None) -> Any:
            after = method.step(state, potential)
            moved = method.displacement(after, state.count)
            wanted = free.displacement(after, state.count)
            cut = jax.tree.map(lambda x, y: jnp.sum(jnp.abs(x) < jnp.abs(y)), moved, wanted)
            size = sum(x.size for x in jax.tree.leaves(params))
            share = jnp.sum(jnp.stack(jax.tree.leaves(cut))).astype(jnp.float32) / size
            return after, (potential(state.params), potential(state.ahead), share)

        return jax.lax.scan(one, method.init(params), length=steps + 1)[1]

    return run(method, params)


def _is_none(leaf: object) -> bool:
    return leaf is None
