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

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Real

from ..core.arrays import DENSE_LIMIT, Modes
from ..core.cost import Cost
from ..core.flow import (
    AbstractEquationFlow,
    AbstractFollowedFlow,
    Integrator,
    Midpoint,
    default_controller,
)
from ..core.optimizer import AbstractOptimizer
from ..core.potential import Potential
from ..core.trees import Params
from ..core.validation import boolean, fraction, non_negative_integer, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.eigenpairs import random_modes
from ..optimizers.optax_optimizer import as_optimizer
from ..optimizers.phase_space import check_phase_space, increments
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


def _rank(value: Rank) -> Rank:
    return "auto" if value == "auto" else positive_integer("rank", value)


class RodFlow(AbstractEquationFlow, AbstractFollowedFlow):
    """Rod Flow of any smooth optimizer (arXiv 2602.01480, 2605.06821), with one rod or several.

    The state is a centre c and a covariance Sigma in the optimizer's phase space, whose dimension
    n is the number of parameters P for gradient descent and 2 P with momentum. For the map
    z -> z + F(z) and the rods d_i = sqrt(s_i) u_i, (s_i, u_i) the leading eigenpairs of Sigma,

        dc/dt = Fbar - JF/2,    dSigma/dt = (1/2) (Fbar Fbar^T + sum_i D_i D_i^T) - 2 Sigma,

    Fbar = F(c) + sum_i [(F(c + d_i) + F(c - d_i))/2 - F(c)] is the averaged map, JF its derivative
    along itself, and D_i = (F(c + d_i) - F(c - d_i))/2. A unit of time is a step of the optimizer.

    Up to `dense_limit` Sigma is a matrix (n, n); `project` keeps it symmetric and positive. Beyond,
    it is a factor of rank + 4 rows (of rank rows where n > 100 000): no step can make it negative.

    Attributes:
        optimizer: The optimizer that is modelled, or a bare optax transformation. Its state must
            hold float arrays only, and its map must be smooth.
        rank: How many rods, 1 to n; 1 is the paper's flow. "auto" keeps as many as carry `share`
            of trace(Sigma), and one more so that it sees an oscillation begin: at least 2, at most
            8; the last one is faded in.
        share: For `rank="auto"`, at least 0 and below 1.
        alignment: True if the observables hold the sharpness at the centre and the rods' alignment
            with the top Hessian eigenvectors, which cost an eigen-iteration at each save.
        dense_limit: The largest n for which Sigma is a matrix.

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

    midpoint: ClassVar[Midpoint] = "two_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "alignment", "dense_limit")
    failures: ClassVar[tuple[str, ...]] = RodEquation.failures

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        return {**PREDICTED, **ALIGNMENT} if self.alignment else PREDICTED

    @property
    def equation(self) -> RodEquation:
        """The right-hand side."""
        return RodEquation(self.optimizer, self.rank, self.share)

    def init(self, potential: Potential, params: Params) -> RodState:
        """Return the state of the rod between the optimizer's first two states.

        The centre is (z_0 + z_1)/2 and Sigma = d_0 d_0^T with d_0 = (z_1 - z_0)/2. The other rows
        of a factor are 1e-6 (float32: 1e-3) as long as d_0, so that the tangent field can turn
        them.

        Raises:
            ValueError: If the rank is above the dimension of phase space, or the optimizer's state
                is not of floats, or its map is not smooth.
        """
        check_phase_space(self.optimizer, potential, params)
        first, unravel = ravel_pytree(self.optimizer.init(params))
        count = self.equation.count(first.size)
        half = 0.5 * increments(self.optimizer, potential, unravel)(first)
        centre = unravel(first + half)
        if first.size <= self.dense_limit:
            return DenseRodState(centre, half[:, None] * half[None, :])
        rows = min(count + (_SPARE_ROWS if first.size <= _SPARED_SIZE else 0), first.size)
        others = random_modes(rows - 1, first.size, first.dtype) / jnp.sqrt(
            jnp.asarray(first.size, first.dtype)
        )
        short = SHORT[str(first.dtype)] * jnp.linalg.norm(half)
        return LowRankRodState(centre, jnp.concatenate([half[None], short * others]))

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

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow.

        Tolerances are the default ones of the dtype for the dense form, and a hundred times as
        large for a factor: 1e-6 relative in float64, 1e-3 in float32.
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
