"""Alice: steps whose length the curvature and the glass along each parameter decide."""

import dataclasses
from functools import partial
from typing import ClassVar, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..core.arrays import RealScalarLike
from ..core.cost import Cost
from ..core.optimizer import AbstractCheckedOptimizer
from ..core.potential import Potential
from ..core.schedules import Rate, at, is_scheduled, rate
from ..core.trees import Params, add_scaled, is_traced, root
from ..core.validation import (
    boolean,
    fraction,
    non_negative,
    positive,
    positive_integer,
    prng_seed,
)
from ..optimizers.second_moment import mixed
from .density import LOSS_CHANGE, Probes, probed, rademacher
from .state import AliceState

HessianTerm = Literal["abs", "rms", "none"]
Clip = Literal["adam", "sgdm", "fixed", "none"]


def quasi_newton_step(
    gradient: Float[Array, "..."],
    curvature: Float[Array, "..."],
    density: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Return the d >= 0 that minimises -|g| d + h d^2/2 + c sqrt(rho) d^(3/2), entry by entry.

    With s = sqrt(d) and b = (3/2) c sqrt(rho), c = sqrt(2/(3 pi)), it solves h s^2 + b s = |g|:
    d = |g|/k, k = alpha + h + sqrt(alpha (alpha + 2 h)), alpha = 3 rho/(4 pi |g|). Without glass it
    is |g|/h, Newton's step; without curvature 2 pi g^2 / (3 rho).

    Args:
        gradient: g.
        curvature: h, at least 0.
        density: rho, at least 0.

    Returns:
        d; 0 where g is 0, and infinity where h and rho are 0 and g is not.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows.glass.alice import quasi_newton_step
        >>> g, h, rho = jnp.asarray([1.0, 1.0]), jnp.asarray([2.0, 0.0]), jnp.asarray([0.0, 1.0])
        >>> [round(float(d), 4) for d in quasi_newton_step(g, h, rho)]
        [0.5, 2.0944]
    """
    size = jnp.abs(gradient)
    glass = 1.5 * LOSS_CHANGE * root(density)
    # In this unit neither the square of `glass` nor h |g|, which may be far smaller than both h and
    # |g|, leaves the range of single precision.
    unit = jnp.maximum(glass, 2 * root(curvature) * root(size))
    flat = unit <= 0
    unit = lax.stop_gradient(jnp.where(flat, 1, unit))
    # The root that does not cancel, and needs no division by g.
    product = 4 * (curvature / unit) * (size / unit)
    below = glass + unit * root(jnp.square(glass / unit) + product)
    step = jnp.square(2 * size / jnp.where(flat, 1, below))
    return jnp.where(flat, jnp.where(size > 0, jnp.inf, 0), step)


def _shorter_than_two(value: object) -> Float[Array, ""] | None:
    if value is None:
        return None
    phi = positive("phi", value)
    message = "phi must be above 0 and below 2, beyond which Newton's step diverges"
    if is_traced(phi):
        return eqx.error_if(phi, phi >= 2, f"{message}.")
    if float(phi) >= 2:
        raise ValueError(f"{message}; got {value!r}.")
    return phi


def _optional(name: str, value: object) -> Float[Array, ""] | None:
    return None if value is None else positive(name, value)


class Alice(AbstractCheckedOptimizer):
    """Alice, with each of its terms to be switched (arXiv 2411.16914).

    Each parameter is moved by delta = -sign(m) d, where d minimises a model of the loss along it,

        -|m| d + h d^2/2 + c sqrt(rho) d^(3/2),    c = sqrt(2/(3 pi)),

    with averages m of gradients, h of the curvature along random signs, and rho of the density of
    gradient glass: how much the gradient jumps, as at the boundaries of a ReLU. d is clipped to
    between `lr_min` and `lr_max` times a scale of the parameter. The gradient is taken ahead, at
    nu:

        m' = b1 m + (1 - b1) g(nu),    s' = b2 s + (1 - b2) g(nu)^2,
        mu' = mu + phi delta,    nu' = mu + omega delta.

    Every `sample_every` steps probes at nu +- sigma z, z of random signs, give h and rho
    (`glass_density`), of which a share 1 - sample_every (1 - b2) is kept. The first step takes all
    averages as they are found at the start. (The authors' code gathers them there for 1/(1 - b1)
    steps before it moves, and weighs early gradients more.)

    For phi = omega (1 - b1), the default, and a gradient that is affine, each step is made with
    m' = g(mu): Alice is a method without memory there. Along one parameter with rho > 0 every
    minimum is stable for small oscillations, as d ~ g^2, and without glass h is measured: there is
    no edge of stability. With several and rho = 0 it may be unstable all the same, where (H z)_i, a
    sum with random signs over a row of the Hessian, is far below its largest eigenvalue, and with
    glass alone on a smooth loss, where rho and h are 0 and the clip decides the step. No sharpness
    decides: a loss times any number is as stable. So there is no `critical_sharpness`.

    Attributes:
        learning_rate: The unit of the clip and of sigma, above 0; a number, or a function of the
            step.
        b1: The share of m that a step keeps, at least 0 and below 1.
        b2: The share of s that a step keeps, at least 0 and below 1.
        phi: The share of delta that mu moves by, above 0 and below 2; None is 1 - b1.
        omega: How far ahead the gradient is taken, at least 0.
        glass: True if the model has the term with rho.
        hessian: What h is: "abs", the mean of |(H z)_i|; "rms", the root of the mean of its square;
            or "none", 0.
        clip: The scale of the bounds of d: "adam" |m|/(sqrt(s) + eps), "sgdm" |m|, "fixed" 1;
            "none" does not clip.
        lr_min: The lower bound over this scale, at least 0.
        lr_max: The upper bound over this scale, above 0; None is twice the learning rate. It holds
            where a schedule takes it below `lr_min`.
        sigma: The length of the probes in parameters, above 0; None is the learning rate, if that
            is no schedule, which may take it to zero.
        probes: How many, at least 1; each costs two gradients.
        sample_every: Every how many steps is probed, at least 1.
        redraw: True if each sampling draws new probes; otherwise the same are kept.
        seed: Of the probes.
        eps: Added to the root of s, in loss / parameter, at least 0.

    Raises:
        ValueError: If an argument is out of its range, or the model has neither glass nor Hessian.

    Example:
        Without glass, Newton's method along each parameter, of which a step goes the tenth part:

        >>> import jax.numpy as jnp
        >>> from flows import Alice, iterate
        >>> optimizer = Alice(1e-3, glass=False, clip="none")
        >>> bowl = lambda w: 0.5 * jnp.sum(jnp.asarray([1.0, 10.0]) * w**2)
        >>> run = iterate(optimizer, bowl, jnp.ones(2), steps=3)
        >>> [round(float(x), 4) for x in run.params[-1]]
        [0.729, 0.729]
    """

    learning_rate: Rate = eqx.field(converter=partial(rate, "learning_rate"))
    b1: Float[Array, ""] = eqx.field(default=0.9, converter=partial(fraction, "b1"))
    b2: Float[Array, ""] = eqx.field(default=0.999, converter=partial(fraction, "b2"))
    phi: Float[Array, ""] | None = eqx.field(default=None, converter=_shorter_than_two)
    omega: Float[Array, ""] = eqx.field(default=1.0, converter=partial(non_negative, "omega"))
    glass: bool = eqx.field(static=True, default=True, converter=partial(boolean, "glass"))
    hessian: HessianTerm = eqx.field(static=True, default="abs")
    clip: Clip = eqx.field(static=True, default="adam")
    lr_min: Float[Array, ""] = eqx.field(default=0.0, converter=partial(non_negative, "lr_min"))
    lr_max: Float[Array, ""] | None = eqx.field(
        default=None, converter=partial(_optional, "lr_max")
    )
    sigma: Float[Array, ""] | None = eqx.field(default=None, converter=partial(_optional, "sigma"))
    probes: int = eqx.field(static=True, default=1, converter=partial(positive_integer, "probes"))
    sample_every: int = eqx.field(
        static=True, default=4, converter=partial(positive_integer, "sample_every")
    )
    redraw: bool = eqx.field(static=True, default=False, converter=partial(boolean, "redraw"))
    seed: int = eqx.field(static=True, default=0, converter=partial(prng_seed, "seed"))
    eps: Float[Array, ""] = eqx.field(default=1e-8, converter=partial(non_negative, "eps"))

    failures: ClassVar[tuple[str, ...]] = ()

    def __check_init__(self):
        for name, allowed in (("hessian", get_args(HessianTerm)), ("clip", get_args(Clip))):
            if getattr(self, name) not in allowed:
                names = " or ".join(f'"{x}"' for x in allowed)
                raise ValueError(f"{name} must be {names}; got {getattr(self, name)!r}.")
        if not self.glass and self.hessian == "none":
            raise ValueError(
                'hessian must be "abs" or "rms" with glass=False: without both terms nothing '
                'decides the length of a step; got "none".'
            )
        if self.sigma is None and is_scheduled(self):
            raise ValueError(
                "sigma must be given with a learning rate that is a schedule: probes as long as "
                "that lose their digits where that is small, and find nothing at zero."
            )
        if self.lr_max is not None:
            lr_max = self.lr_max
        elif is_scheduled(self):
            return
        else:
            lr_max = 2 * at(self.learning_rate, 0)
        if is_traced((self.lr_min, lr_max)):
            return
        low, high = float(self.lr_min), float(lr_max)
        if low > high:
            raise ValueError(f"lr_min must be at most lr_max, {high:g}; got {low:g}.")

    def init(self, params: Params) -> AliceState:
        """Return the state at `params`, before its first gradient."""
        nothing = jax.tree.map(jnp.zeros_like, params)
        probes = None if self.redraw else rademacher(self.seed, params, self.probes)
        count = jnp.zeros((), jnp.int32)
        return AliceState(params, params, nothing, nothing, nothing, nothing, probes, count)

    def step(self, state: AliceState, potential: Potential) -> AliceState:
        """Return the state after one step: averages with the gradient at nu, then delta."""
        count, ahead = state.count, state.ahead
        assert count is not None
        first = count == 0
        gradient = jax.grad(potential)(ahead)

        def kept(share: Float[Array, ""], average: Params, found: Params) -> Params:
            return mixed(jnp.where(first, 0, share), average, found)

        def sampled() -> tuple[Params, Params]:
            probes = self.directions(state)
            curvature, density = self.sample(ahead, gradient, probes, potential, count)
            share = 1 - self.sample_every * self.sampling_rate
            return kept(share, state.curvature, curvature), kept(share, state.density, density)

        curvature, density = lax.cond(
            count % self.sample_every == 0,
            sampled,
            lambda: (state.curvature, state.density),
        )
        after = dataclasses.replace(
            state,
            momentum=kept(self.b1, state.momentum, gradient),
            second_moment=kept(self.b2, state.second_moment, jax.tree.map(jnp.square, gradient)),
            curvature=curvature,
            density=density,
            count=count + 1,
        )
        delta = self.displacement(after, count)
        return dataclasses.replace(
            after,
            params=add_scaled(state.params, self.share, delta),
            ahead=add_scaled(state.params, self.omega, delta),
        )

    def params(self, state: AliceState) -> Params:
        """Return mu."""
        return state.params

    @property
    def critical_sharpness(self) -> Float[Array, ""]:
        """None: the steps are scaled by the curvature that is measured.

        Raises:
            ValueError: Always. Without glass, c H is as stable or unstable as H for every number c.
        """
        raise ValueError(
            "no sharpness decides about the stability of Alice: its steps are scaled by the "
            "curvature that it measures, so that a loss times any number is as stable. It depends "
            "on the other entries in the rows of the Hessian, and on the density of glass."
        )

    @property
    def cost(self) -> Cost:
        """What a step with probes costs, a gradient and two for each; others cost one gradient.

        A run counts what it really took.
        """
        return Cost(gradients=1 + 2 * self.probes)

    def failure(self, state: AliceState) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return 0 and nan: no step fails."""
        del state
        return jnp.zeros((), jnp.int32), jnp.asarray(jnp.nan)

    def spent(self, state: AliceState) -> Cost:
        """Return what the steps up to `state` cost."""
        assert state.count is not None
        samplings = (state.count + self.sample_every - 1) // self.sample_every
        return Cost(gradients=state.count + 2 * self.probes * samplings)

    @property
    def share(self) -> Float[Array, ""]:
        """phi, or 1 - b1 if it is None."""
        return 1 - self.b1 if self.phi is None else self.phi

    @property
    def sampling_rate(self) -> Float[Array, ""]:
        """The rate at which h and rho relax, per step: 1 - b2, at most all of it at a sampling."""
        return jnp.minimum(1 - self.b2, 1 / self.sample_every)

    def directions(self, state: AliceState) -> Probes:
        """Return the probes of a step."""
        if state.probes is not None:
            return state.probes
        assert state.count is not None
        key = jax.random.fold_in(jax.random.key(self.seed), state.count)
        return rademacher(key, state.params, self.probes)

    def displacement(self, state: AliceState, t: RealScalarLike) -> Params:
        """Return delta = -sign(m) d at a state.

        Args:
            state: Where; its count is not used.
            t: The number of steps, which a schedule of the learning rate needs.
        """
        learning_rate = at(self.learning_rate, t)
        lr_max = 2 * learning_rate if self.lr_max is None else self.lr_max

        def one(m: Array, s: Array, h: Array, rho: Array) -> Array:
            # An average that the solver's error in a flow takes below zero counts as zero.
            h, rho = jnp.maximum(h, 0), jnp.maximum(rho, 0)
            h = {"abs": h, "rms": root(h), "none": jnp.zeros_like(h)}[self.hessian]
            d = quasi_newton_step(m, h, rho if self.glass else jnp.zeros_like(rho))
            if self.clip != "none":
                scale = {
                    "adam": lambda: jnp.abs(m) / self._divisor(s),
                    "sgdm": lambda: jnp.abs(m),
                    "fixed": lambda: jnp.ones_like(m),
                }[self.clip]()
                low, high = (x.astype(m.dtype) * scale for x in (self.lr_min, lr_max))
                d = jnp.clip(d, low, high)
            return -jnp.sign(m) * d

        return jax.tree.map(
            one, state.momentum, state.second_moment, state.curvature, state.density
        )

    def sample(
        self,
        ahead: Params,
        gradient: Params,
        probes: Probes,
        potential: Potential,
        t: RealScalarLike,
    ) -> tuple[Params, Params]:
        """Return |h| or h^2, and rho, that probes find at nu, where the gradient is known."""
        sigma = at(self.learning_rate, t) if self.sigma is None else self.sigma
        size = jnp.square if self.hessian == "rms" else jnp.abs
        density, curvature = probed(potential, ahead, gradient, probes, sigma, size)
        return curvature, density

    def _divisor(self, second_moment: Array) -> Array:
        found = root(second_moment) + self.eps.astype(second_moment.dtype)
        return jnp.where(found > 0, found, 1)
