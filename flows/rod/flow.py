"""Rod Flow: two consecutive iterates as the ends of a rod that moves, turns and stretches.

An optimizer is a map z -> z + F(z) of its phase space. Two consecutive states have the centre
c_t = (z_t + z_{t+1})/2 and the half-difference d_t = (z_{t+1} - z_t)/2. Where the iterates
oscillate, d flips its sign at every step, while c and d d^T move slowly, exactly by

    c' - c = (F_+ + F_-)/2,    d'd'^T - d d^T = (F_+ F_+^T + F_- F_-^T)/4 - 2 d d^T,

F_+- = F(c +- d). As an ordinary equation, with one backward-error correction of the centre, it is
the rod flow of arXiv 2602.01480 (gradient descent) and 2605.06821 (momentum). Sigma is the
covariance that d d^T relaxes to. One rod follows its leading eigenvector; several rods, our
extension, see an oscillation that begins while the slow motion is still longer.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Real

from ..core.arrays import DENSE_LIMIT, Modes, Vector
from ..core.cost import Cost
from ..core.flow import (
    AbstractDoubtedFlow,
    AbstractEquationFlow,
    AbstractFollowedFlow,
    AbstractPreconditionedFlow,
    Integrator,
    Midpoint,
    default_controller,
)
from ..core.optimizer import AbstractGradientMethod, AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params, scaled
from ..core.validation import boolean, fraction, non_negative_integer, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.eigenpairs import random_modes
from ..optimizers.adam import NAdam
from ..optimizers.adaptive import AbstractSecondMomentMethod, AdaptiveState, check_average
from ..optimizers.optax_optimizer import as_optimizer
from ..optimizers.phase_space import check_phase_space, increments_in_time, moving
from ..optimizers.second_moment import Average
from .averages import MIDDLE
from .equation import MOST_RODS, SHORT, Rank, RodEquation
from .observables import (
    ALIGNMENT,
    PREDICTED,
    RodParts,
    alignment,
    first_modes,
    predicted,
    rods_in_parameters,
)
from .solver import INTEGRAL, LONGEST_STEP, PROPORTIONAL, SAFETY, RodSolver, error_norm
from .state import DenseRodState, LowRankRodState, RodState, flat_centre

# Rows of the factor beyond the rods: they remember where the next rods come from. Each brings the
# factor's flow an order of magnitude nearer to the dense one, and costs some six vectors of the
# size of phase space, which is why large ones do without.
_SPARE_ROWS = 4
_SPARED_SIZE = 100_000

# Second differences of a map along a rod, relative to its first, that matter; and what that at half
# the length may be of it, which is a quarter for a smooth map and a half for a kink.
_BENT = 0.02
_SMOOTH = 0.5


def _rank(value: Rank) -> Rank:
    return "auto" if value == "auto" else positive_integer("rank", value)


class RodFlow(
    AbstractEquationFlow, AbstractFollowedFlow, AbstractPreconditionedFlow, AbstractDoubtedFlow
):
    """Rod Flow of any smooth optimizer (arXiv 2602.01480, 2605.06821), with one rod or several.

    The state is a centre c and a covariance Sigma in the optimizer's phase space, whose dimension
    n is the number of parameters P for gradient descent and 2 P with momentum. For the map
    z -> z + F(z) and the rods d_i = sqrt(s_i) u_i, (s_i, u_i) the leading eigenpairs of Sigma,

        dc/dt = Fbar - JF/2,    dSigma/dt = (1/2) (Fbar Fbar^T + sum_i D_i D_i^T) - 2 Sigma,

    Fbar = F(c) + sum_i [(F(c + d_i) + F(c - d_i))/2 - F(c)] is the averaged map, JF its derivative
    along itself, and D_i = (F(c + d_i) - F(c - d_i))/2. A unit of time is a step of the optimizer.

    For `RMSProp`, `Adam` and their relatives the rods are those of w and m only, and the average nu
    of squared gradients moves beside them, as `flows/rod/averages.py` says. A step counter or a
    schedule makes F depend on the time, which between two steps is t + 1/2; the correction of the
    centre then holds those derivatives too.

    Up to `dense_limit` Sigma is a matrix (n, n); `project` keeps it symmetric and positive. Beyond,
    it is a factor of rank + 4 rows (of rank rows where n > 100 000): no step can make it negative.

    Attributes:
        optimizer: The optimizer that is modelled, or a bare optax transformation. Its state must
            hold float arrays, and step counters perhaps, and its map must be smooth. All float
            arrays of a transformation are in phase space, its second moment too.
        rank: How many rods, 1 to n; 1 is the paper's flow. "auto" keeps as many as carry `share`
            of trace(Sigma), and one more so that it sees an oscillation begin: at least 2, at most
            8; the last one is faded in.
        share: For `rank="auto"`, at least 0 and below 1.
        alignment: True if the observables hold the sharpness at the centre and the rods' alignment
            with the top Hessian eigenvectors, which cost an eigen-iteration at each save.
        dense_limit: The largest n for which Sigma is a matrix.
        alternation: True if the nu of an adaptive method differs at the two ends of a rod, which is
            ours; it helps where the oscillation has settled. By default nu is smooth, as in the
            paper.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range; from `init` if the rank is
            above n, or the optimizer's state or map is not suitable.

    Example:
        On L = (S/2) w^2 - w^4/4 gradient descent with learning rate 1 settles on the two-cycle
        w = +-a, a^2 = S - 2, where the rod is at rest:

        >>> import jax.numpy as jnp
        >>> from flows import DenseRodState, GradientDescent, RodFlow
        >>> well = lambda w: jnp.sum(0.5 * 2.1 * w**2 - 0.25 * w**4)
        >>> flow = RodFlow(GradientDescent(1.0))
        >>> state = flow.init(well, jnp.asarray([0.1]))
        >>> float(flow.vector_field(0.0, state, well).covariance[0, 0]) > 0
        True
        >>> cycle = DenseRodState(flow.optimizer.init(jnp.zeros(1)), jnp.asarray([[0.1]]))
        >>> bool(abs(flow.vector_field(0.0, cycle, well).covariance[0, 0]) < 1e-12)
        True
    """

    optimizer: AbstractOptimizer = eqx.field(converter=as_optimizer)
    rank: Rank = eqx.field(static=True, default=1, converter=_rank)
    share: Float[Array, ""] = eqx.field(
        default=0.99, converter=partial(fraction, "share"), kw_only=True
    )
    alignment: bool = eqx.field(
        static=True, default=True, converter=partial(boolean, "alignment"), kw_only=True
    )
    dense_limit: int = eqx.field(
        static=True,
        default=DENSE_LIMIT,
        converter=partial(non_negative_integer, "dense_limit"),
        kw_only=True,
    )
    alternation: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "alternation"), kw_only=True
    )

    midpoint: ClassVar[Midpoint] = "two_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "alignment", "dense_limit")
    failures: ClassVar[tuple[str, ...]] = RodEquation.failures

    def __check_init__(self) -> None:
        adaptive = isinstance(self.optimizer, AbstractSecondMomentMethod)
        if isinstance(self.optimizer, AbstractSecondMomentMethod):
            check_average(self.optimizer)
        if self.alternation and not adaptive:
            raise ValueError(
                "alternation must be False for an optimizer without a second moment of its own; "
                f"got True for {type(self.optimizer).__name__}."
            )
        if isinstance(self.optimizer, NAdam) and self.optimizer.convention != "optax":
            raise ValueError(
                'optimizer must have convention="optax": PyTorch\'s NAdam keeps a product of its '
                f"momenta, which is no point of phase space; got {self.optimizer!r}."
            )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**PREDICTED, **ALIGNMENT} if self.alignment else PREDICTED

    @property
    def equation(self) -> RodEquation:
        """The right-hand side."""
        return RodEquation(self.optimizer, self.rank, self.share, self.alternation)

    def counted_init(self, potential: Potential, params: Params) -> tuple[RodState, Cost]:
        """Return `init(potential, params)` and what it costs: steps of the optimizer."""
        adaptive = isinstance(self.optimizer, AbstractSecondMomentMethod)
        return self.init(potential, params), self.optimizer.cost * (3 if adaptive else 1)

    def init(self, potential: Potential, params: Params) -> RodState:
        """Return the state of the rod between the optimizer's first two states.

        The centre is (z_0 + z_1)/2 and Sigma = d_0 d_0^T with d_0 = (z_1 - z_0)/2. The other rows
        of a factor are 1e-6 (float32: 1e-3) as long as d_0, so that the tangent field can turn
        them.

        Raises:
            ValueError: If the rank is above the dimension of phase space, or the optimizer's state
                is not of floats, or its map is not smooth.
        """
        check_phase_space(self.optimizer, potential, params, counters=True)
        before, second_moment, time = self.optimizer.init(params), None, None
        start, now = moving(before), jnp.zeros((), jax.tree.leaves(params)[0].dtype)
        half = scaled(0.5, increments_in_time(self.optimizer, potential)(now, start))
        centre = jax.tree.map(jnp.add, start, half)
        if isinstance(self.optimizer, AbstractSecondMomentMethod):
            # What the first step and the second divide by.
            second_moment = self._first_second_moment(before, potential)
            centre, half = (dataclasses.replace(x, second_moment=None) for x in (centre, half))
        first, _ = ravel_pytree(half)
        if any(not eqx.is_inexact_array(x) for x in jax.tree.leaves(before)):
            time = jnp.zeros((), first.dtype)
        count = self.equation.count(first.size)
        if first.size <= self.dense_limit:
            return DenseRodState(centre, first[:, None] * first[None, :], second_moment, time)
        rows = min(count + (_SPARE_ROWS if first.size <= _SPARED_SIZE else 0), first.size)
        others = random_modes(rows - 1, first.size, first.dtype) / jnp.sqrt(
            jnp.asarray(first.size, first.dtype)
        )
        short = SHORT[str(first.dtype)] * jnp.linalg.norm(first)
        factor = jnp.concatenate([first[None], short * others])
        return LowRankRodState(centre, factor, second_moment, time)

    def _first_second_moment(self, state: AdaptiveState, potential: Potential) -> Average:
        """Return the mean of what the first two steps of an adaptive method divide by."""
        assert isinstance(self.optimizer, AbstractSecondMomentMethod)
        after = self.optimizer.step(state, potential)
        then = self.optimizer.step(after, potential)
        return jax.tree.map(lambda x, y: 0.5 * (x + y), after.second_moment, then.second_moment)

    def vector_field(
        self, t: Real[Array, ""] | float, state: RodState, args: Potential
    ) -> RodState:
        """Return dc/dt, with dSigma/dt or the velocity of a factor of Sigma."""
        return self.equation.vector_field(t, state, args)

    def project(self, state: RodState, potential: Potential) -> tuple[RodState, Int[Array, ""]]:
        """Make Sigma symmetric and positive; it fails where the map has no derivative."""
        return self.equation.project(state, potential)

    def params(self, state: RodState) -> Params:
        """Return the centre's parameters."""
        return self.optimizer.params(state.centre)

    def preconditioner(self, state: RodState, potential: Potential) -> Vector | None:
        """Return P at the centre, (P,), for an adaptive method; None if it is in phase space."""
        del potential
        if state.second_moment is None:
            return None
        assert isinstance(self.optimizer, AbstractSecondMomentMethod)
        average = self.optimizer.average
        count = None if state.time is None else state.time + MIDDLE + 1
        found = average.preconditioner(state.second_moment, count)
        return average.diagonal(self.params(state), found)

    def observables(self, state: RodState, potential: Potential) -> dict[str, Array]:
        """Return the predicted loss, the rods' lengths, and how they lie in the landscape.

        The predicted average of the loss is L(c) + sum_i [(L(c + d_i) + L(c - d_i))/2 - L(c)]: for
        one rod, the mean over its ends.
        """
        kept, memory = self.kept(state), self.first_memory(state)
        aligned, _, _ = self.followed(potential, self.params(state), kept, memory)
        return {**self.instant(state, potential), **aligned}

    def instant(self, state: RodState, potential: Potential) -> dict[str, Array]:
        """Return all observables but the alignment."""
        return predicted(self.equation, state, potential)

    def kept(self, state: RodState) -> RodParts | None:
        """Return the rods' parts in the parameters, (rod, P); None without alignment."""
        return rods_in_parameters(self.equation, state) if self.alignment else None

    @property
    def kept_vectors(self) -> int:
        """As many as there are rods, or none without alignment."""
        rods = MOST_RODS if self.rank == "auto" else self.rank
        return rods if self.alignment else 0

    def first_memory(self, state: RodState) -> Modes | None:
        """Return random directions in place of the eigenvectors at the save before."""
        if not self.alignment:
            return None
        flat, _ = ravel_pytree(self.params(state))
        return first_modes(self.equation.count(flat_centre(state)[0].size), flat.size, flat.dtype)

    def followed(
        self, potential: Potential, params: Params, kept: RodParts | None, memory: Modes | None
    ) -> tuple[dict[str, Array], Modes | None, Cost]:
        """Return the alignments and the sharpness at the centre, starting from the last ones."""
        if kept is None or memory is None:
            return {}, None, Cost()
        return alignment(potential, params, kept, memory)

    def doubt(self, state: RodState, potential: Potential) -> str:
        """Return a warning if the map is not smooth at the centre, where several rods evaluate it.

        A smooth map differs there from the mean of its values at a rod's ends by four times as much
        as from those at the ends of a rod half as long. That of `SAM` without smoothing, or with
        one that is small beside the gradients at the ends, does not, and the centre goes astray;
        with one rod it is not evaluated there. An `AbstractGradientMethod` is as smooth as the
        loss, and is not asked.
        """
        known = isinstance(self.optimizer, AbstractGradientMethod | AbstractSecondMomentMethod)
        if known or self.rank == 1:
            return ""
        bend, halved = map(float, self.equation.bends(state, potential))
        if not (bend > _BENT and halved > _SMOOTH * bend):
            return ""
        return (
            f"the map of {type(self.optimizer).__name__} is not smooth at the rods' centre, where "
            f"rank = {self.rank!r} evaluates it: it differs there from the mean of its values at a "
            f"rod's ends by {bend:.2g} of half their difference, and from that at half the length "
            f"by {halved:.2g}, a quarter if it were smooth. The centre may be wrong: use rank = 1"
        )

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow.

        Tolerances are the default ones of the dtype for the dense form, a tenth of them in float64:
        1e-9 relative, 1e-5 in float32; for small variances relative alone, a thousand times that.
        They are 1e-6 relative for a factor in float64, and 2e-3 in float32. `solver_error` says how
        far a run's solver is off.
        """
        suited = default_controller(dtype)
        controller = diffrax.PIDController(
            rtol=suited.rtol,
            atol=suited.atol,
            dtmax=LONGEST_STEP,
            norm=error_norm,
            pcoeff=PROPORTIONAL,
            icoeff=INTEGRAL,
            safety=SAFETY,
        )
        return Integrator(RodSolver(self.equation), controller)

    @property
    def cost(self) -> Cost | None:
        """The map and a derivative at each end of the rods; it varies for `rank="auto"`."""
        return self.equation.cost
