"""The parity flow: every iterate of an optimizer at its edge, from one ordinary equation."""

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final, Literal, get_args

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, PyTree, Real

from ..core.arrays import Modes, Vector
from ..core.cost import Cost
from ..core.flow import (
    AbstractFollowedFlow,
    AbstractPreconditionedFlow,
    Integrator,
    Midpoint,
)
from ..core.optimizer import AbstractAdaptiveMethod, AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, norm
from ..core.validation import as_params, boolean, non_negative_integer, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.eigenpairs import random_modes
from ..optimizers.local_fit import check_fit, fit_step, fitted
from ..optimizers.optax_optimizer import OptaxOptimizer, as_optimizer
from ..optimizers.phase_space import check_phase_space, moving
from ..solvers.chebyshev import RungeKuttaChebyshev
from .controllers import SquaresController
from .equation import MOST_ORDER, ParityEquation, stiffest_rate
from .observables import (
    ALIGNMENT,
    HALF_DIFFERENCE,
    PREDICTED,
    alignment,
    half_difference,
    preconditioner,
    predicted,
)
from .solver import ParitySolver, PartwiseController
from .start import split
from .state import ParityState, PolarParityState

Start = Literal["fit", "split", "given"]
Precision = Literal["float32", "float64"]

# What is slaved flips at each step: Phi multiplies it by down to -1, at a two-cycle somewhat less.
_FASTEST_MULTIPLIER: Final = -1.2


class ParityFlow(AbstractFollowedFlow, AbstractPreconditionedFlow):
    """The parity flow of any smooth optimizer: this project's own, and its most faithful one.

    Every sequence is w_t = c_t + (-1)^t d_t. An optimizer z' = z + F(z, t), in whatever phase
    space, moves the two parts exactly by the doubled map

        Phi:  c' = c + (F_+ + F_-)/2,    d' = -d - (F_+ - F_-)/2,    F_+- = F(c +- d, t),

    and at its edge both are slow. The flow is the ordinary equation whose map at time 1 is Phi,

        dz/dt = log(Phi) z = f - (1/2) df + (1/3) d^2 f - ...,    z = (c, d),    f = Phi - 1,

    with d^k f the k-th difference of f along z, Phi z, Phi^2 z, ... Order p keeps p terms: its
    error is of order p in the slowness. One vector d holds all oscillating modes, with their signs;
    no eigenvector, no rank and no Hessian enter. Without an oscillation order 2 is gradient flow
    with its backward-error correction; a two-cycle of the optimizer is an equilibrium at any order.

    It fails where the motion is fast: in catapults, where a mode grows by a factor near 2 or more
    in a step, and on cycles of four steps. `remainder` shows it: the first term that the series
    leaves out, relative to the first that it keeps.

    With momentum a mode far below the edge rotates: its multiplier mu is complex, of modulus
    sqrt(beta), and between a quarter and three quarters of the critical sharpness neither |mu - 1|
    nor |-mu - 1| is below 1, as the series needs. The flow then damps what should grow at the edge,
    and its onset is late. Start it, with `burn`, where the sharpness is at least 0.8 of critical.

    Attributes:
        optimizer: The optimizer that is modelled, or a bare optax transformation. Its map must be
            smooth; step counters advance with the flow's time.
        order: p, 1 to 4. Higher orders are better where the motion is slow, and can be worse in
            catapults.
        start: Where c and d come from. "fit" runs the optimizer to step `burn` + `half_width` and
            fits two polynomials of t, C(t) + (-1)^t D(t), to the iterates around step `burn`; the
            flow then starts at that step. "split" splits w_0 itself, for gradient descent: d holds
            the modes whose curvature at c is above 1/eta, at rest in the mean over both ends.
            "given" takes c = w_0 - `difference` and d = `difference`.
        burn: The step at which a fitted start begins, at least `half_width`; 0 otherwise.
        difference: d at step 0, a pytree like the optimizer's state without its counters (or like
            the parameters, where that is all it holds); for start="given" only.
        half_width: How many iterates on each side of `burn` are fitted.
        degree: The degree of both polynomials, at most `half_width` - 1.
        noise: The precision of the discrete run, "float32" or "float64", whose rounding errors set
            the onset where an oscillation has decayed below them; None for no such source.
        alignment: True if the observables hold the sharpness of the symmetrised loss and how the
            half-difference lies among its top eigenvectors, which cost an iteration at each save.
        modes: How many eigenvectors.
        remainder_every: At which multiples of a step the remainder is found, which takes 2 (p + 1)
            evaluations of the map; it is nan at other saves.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range; from `init` if the
            optimizer's map is not smooth, or the start does not fit it.

    Example:
        Gradient descent on L = (S/2) w^2 - w^4/4 with learning rate 1 settles on the two-cycle
        w = +-a, a^2 = S - 2. The flow predicts every iterate on the way:

        >>> import jax.numpy as jnp
        >>> from flows import GradientDescent, ParityFlow, iterate, simulate
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> optimizer, start = GradientDescent(1.0), jnp.asarray([0.1])
        >>> discrete = iterate(optimizer, well, start, steps=40)
        >>> flow = simulate(ParityFlow(optimizer, order=3), well, start, steps=40)
        >>> flow.steps[0].item(), flow.steps[-1].item()
        (10, 40)
        >>> signs = jnp.where(flow.steps % 2 == 0, 1.0, -1.0)
        >>> iterates = flow.params + signs[:, None] * flow.observables["half_difference"]
        >>> bool(jnp.all(jnp.abs(iterates - discrete.params[10:]) < 1e-4))
        True
    """

    optimizer: AbstractOptimizer = eqx.field(converter=as_optimizer)
    order: int = eqx.field(static=True, default=2, converter=partial(positive_integer, "order"))
    start: Start = eqx.field(static=True, default="fit")
    burn: int | None = eqx.field(static=True, default=None, kw_only=True)
    difference: PyTree[ArrayLike] | None = eqx.field(default=None, kw_only=True)
    half_width: int = eqx.field(
        static=True, default=7, converter=partial(positive_integer, "half_width"), kw_only=True
    )
    degree: int = eqx.field(
        static=True, default=4, converter=partial(non_negative_integer, "degree"), kw_only=True
    )
    noise: Precision | None = eqx.field(static=True, default=None, kw_only=True)
    alignment: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "alignment"), kw_only=True
    )
    remainder_every: int = eqx.field(
        static=True,
        default=10,
        converter=partial(positive_integer, "remainder_every"),
        kw_only=True,
    )
    modes: int = eqx.field(
        static=True, default=3, converter=partial(positive_integer, "modes"), kw_only=True
    )

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("noise", "alignment", "modes")

    def __check_init__(self) -> None:
        if self.order > MOST_ORDER:
            raise ValueError(f"order must be 1 to {MOST_ORDER}; got {self.order}.")
        if self.start not in get_args(Start):
            raise ValueError(f'start must be "fit", "split" or "given"; got {self.start!r}.')
        if self.noise is not None and self.noise not in get_args(Precision):
            raise ValueError(
                'noise must be "float32" or "float64", the precision of the discrete run, or None; '
                f"got {self.noise!r}."
            )
        if (self.difference is None) == (self.start == "given"):
            raise ValueError('difference must be given with start="given", and only with it.')
        if self.start == "fit":
            check_fit(self.burn, self.half_width, self.degree)
        elif self.burn not in (None, 0):
            raise ValueError(
                f"burn must be 0 or None with start={self.start!r}, which begins at step 0; got "
                f"{self.burn!r}."
            )
        if self.start == "split" and not isinstance(self.optimizer, AbstractDescent):
            raise ValueError(
                'start="split" needs an optimizer whose step is w - eta g(w), such as '
                f'GradientDescent; got {type(self.optimizer).__name__}. Use start="fit".'
            )

    @property
    def first_step(self) -> int:
        """The optimizer's step at which the flow begins: `burn` for a fitted start, else 0."""
        return fit_step(self.burn, self.half_width) if self.start == "fit" else 0

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**PREDICTED, **HALF_DIFFERENCE, **(ALIGNMENT if self.alignment else {})}

    @property
    def equation(self) -> ParityEquation:
        """The right-hand side."""
        unit = None if self.noise is None else float(jnp.finfo(self.noise).eps)
        return ParityEquation(self.optimizer, self.order, unit)

    def init(self, potential: Potential, params: Params) -> ParityState | PolarParityState:
        """Return the state at `first_step` of an optimizer that starts at `params`.

        Raises:
            ValueError: As `counted_init`.
        """
        return self.counted_init(potential, params)[0]

    def counted_init(
        self, potential: Potential, params: Params
    ) -> tuple[ParityState | PolarParityState, Cost]:
        """Return the state at `first_step`, and what it costs to find it.

        For a fitted start that is a run of the optimizer to step `first_step` + `half_width`.

        Raises:
            ValueError: If the optimizer's map is not smooth, `difference` has another structure
                than its state, or the potential has no forward derivative, which `noise` needs.
        """
        # A short half-difference is followed by the map's derivative.
        derivative = self.noise is not None
        check_phase_space(self.optimizer, potential, params, counters=True, derivative=derivative)
        if self.start == "fit":
            centre, half = fitted(
                self.optimizer, potential, params, self.first_step, self.half_width, self.degree
            )
            cost = self.optimizer.cost * (self.first_step + self.half_width)
        elif self.start == "split":
            assert isinstance(self.optimizer, AbstractDescent)
            (centre, half), cost = split(self.optimizer, potential, params)
        else:
            first = moving(self.optimizer.init(params))
            half = self._given(first, params)
            centre, cost = jax.tree.map(jnp.subtract, first, half), Cost()
        flat, unravel = ravel_pytree(half)
        time = jnp.asarray(self.first_step, flat.dtype)
        if self.noise is None:
            return ParityState(centre, half, time), cost
        # An oscillation of length 0 has no direction: it takes that of all parameters together.
        length, tiny = norm(half), jnp.finfo(flat.dtype).tiny
        somewhere = unravel(jnp.full_like(flat, 1 / math.sqrt(flat.size)))
        direction = jax.tree.map(
            lambda d, n: jnp.where(length > tiny, d / jnp.maximum(length, tiny), n), half, somewhere
        )
        log_length = jnp.log(jnp.maximum(length, tiny))
        return PolarParityState(centre, direction, log_length, time), cost

    def _given(self, first: PyTree[Array], params: Params) -> PyTree[Array]:
        """Return `difference` as a point of phase space.

        Raises:
            ValueError: If it has another structure, or other shapes.
        """
        given = as_params(self.difference, "difference")
        wanted = jax.tree.map(lambda x: (x.shape, str(x.dtype)), first)
        for like in (first, params):
            found = jax.tree.map(lambda x: (x.shape, str(x.dtype)), given)
            same = jax.tree.structure(given) == jax.tree.structure(like)
            leaves = jax.tree.leaves(found) == jax.tree.leaves(wanted)
            if same and leaves:
                return jax.tree.unflatten(jax.tree.structure(first), jax.tree.leaves(given))
        shapes = {
            name: [(x.shape, str(x.dtype)) for x in jax.tree.leaves(tree)]
            for name, tree in (("first", first), ("given", given))
        }
        raise ValueError(
            f"difference must be like the state of {type(self.optimizer).__name__} without its "
            f"counters, a {jax.tree.structure(first)} with leaves {shapes['first']}; got a "
            f"{jax.tree.structure(given)} with leaves {shapes['given']}."
        )

    def vector_field(
        self, t: Real[Array, ""] | float, state: ParityState | PolarParityState, args: Potential
    ) -> ParityState | PolarParityState:
        """Return log(Phi) z to order p, for z = (c, d) or its polar form."""
        return self.equation.vector_field(t, state, args)

    def params(self, state: ParityState | PolarParityState) -> Params:
        """Return the centre's parameters."""
        return self.optimizer.params(state.centre)

    def observables(
        self, state: ParityState | PolarParityState, potential: Potential
    ) -> dict[str, Array]:
        """Return the predicted loss, the half-difference, and how far the series can be trusted.

        The predicted average of the loss is (L(c + d) + L(c - d))/2.
        """
        kept, memory = self.kept(state), self.first_memory(state)
        aligned, _, _ = self.followed(potential, self.params(state), kept, memory)
        return {**self.instant(state, potential), **aligned}

    def instant(
        self, state: ParityState | PolarParityState, potential: Potential
    ) -> dict[str, Array]:
        """Return all observables but the alignment."""
        return predicted(self.equation, state, potential, self.remainder_every)

    def preconditioner(
        self, state: ParityState | PolarParityState, potential: Potential
    ) -> Vector | None:
        """Return the mean of the preconditioners at both predicted iterates."""
        return preconditioner(self.equation, state, potential)

    def kept(self, state: ParityState | PolarParityState) -> Vector | None:
        """Return the half-difference in the parameters, flat (P,); None without alignment."""
        if not self.alignment:
            return None
        return ravel_pytree(half_difference(self.equation, state))[0]

    @property
    def kept_vectors(self) -> int:
        """One for the half-difference among the observables, and one for the alignment."""
        return 1 + self.alignment

    def first_memory(self, state: ParityState | PolarParityState) -> Modes | None:
        """Return random directions in place of the eigenvectors at the save before."""
        if not self.alignment:
            return None
        flat, _ = ravel_pytree(self.params(state))
        return random_modes(min(self.modes, flat.size), flat.size, flat.dtype)

    def followed(
        self, potential: Potential, params: Params, kept: Vector | None, memory: Modes | None
    ) -> tuple[dict[str, Array], Modes | None, Cost]:
        """Return the alignment, starting from the eigenvectors at the save before."""
        if kept is None or memory is None:
            return {}, None, Cost()
        return alignment(potential, params, kept, memory)

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow, for gradient descent; else one that suits it.

        The stiff rates of gradient descent are real: a stabilised method takes long steps. Its
        tolerances are relative to the size of c, and a hundred times that relative to the size of
        d: 1e-4 for order 1 and 2, 1e-6 above (1e-5 in float32); a thousandth of that up to 512
        parameters. With momentum rates are complex, and with `noise` the state is polar: Tsit5
        takes the steps, with 1e-5 relative and 1e-8 absolute; for averages of squares, relative
        alone.
        """
        if isinstance(self.optimizer, AbstractAdaptiveMethod | OptaxOptimizer):
            controller = SquaresController(self.optimizer, rtol=1e-5, atol=1e-8)
            return Integrator(diffrax.Tsit5(), controller)
        if self.noise is not None or not isinstance(self.optimizer, AbstractDescent):
            return Integrator(diffrax.Tsit5(), diffrax.PIDController(rtol=1e-5, atol=1e-8))
        finest = 1e-6 if jnp.finfo(dtype).bits > 32 else 1e-5
        controller = PartwiseController(1e-4 if self.order <= 2 else finest)
        if self.order <= 2:
            return Integrator(ParitySolver(self.equation), controller)
        radius = -stiffest_rate(self.order, _FASTEST_MULTIPLIER)
        return Integrator(RungeKuttaChebyshev(jnp.asarray(radius)), controller)

    def high_order(self, dtype: DTypeLike) -> Integrator | None:
        """Return Tsit5 with the tolerances of `integrator`, where that has a stabilised method.

        At a thousandth of its tolerances a method of order 2 takes dozens of steps for one of the
        optimizer in a burst.
        """
        solver, controller = self.integrator(dtype)
        if isinstance(solver, diffrax.Tsit5):
            return None
        return Integrator(diffrax.Tsit5(), controller)

    @property
    def cost(self) -> Cost:
        """The optimizer's step at 2 p points."""
        return self.equation.cost
