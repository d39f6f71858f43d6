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
from typing import Any, ClassVar, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Real

from ..core.arrays import DENSE_LIMIT
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
from ..core.trees import Params, all_finite
from ..core.validation import fraction, positive_integer
from ..core.variables import LOSS, NONE, PARAMETER, SHARPNESS, STEPS, Variable
from ..curvature.eigenpairs import random_modes
from ..linear_algebra.low_rank_sums import inner_products
from ..linear_algebra.symmetric import positive_part
from ..optimizers.phase_space import check_phase_space, increments
from .alignment import alignment, first_modes
from .equation import RodSlope, is_rough, rod_slope
from .solver import INTEGRAL, LONGEST_STEP, PROPORTIONAL, SAFETY, RodSolver, error_norm
from .state import DenseRodState, LowRankRodState, Rods, RodState, flat_centre

# What `rank="auto"` may keep.
_MOST_RODS = 8

# Rows of the factor beyond the rods: they remember where the next rods come from. Each brings the
# factor's flow an order of magnitude nearer to the dense one, and costs some six vectors of the
# size of phase space, which is why large ones do without.
_SPARE_ROWS = 4
_SPARED_SIZE = 100_000

# Length of the rows of a factor at the start beyond the first, relative to it, and the length
# below which rows count as zero in the tangent field.
_SHORT = {"float32": 1e-3, "float64": 1e-6}


class RodFlow(AbstractEquationFlow, AbstractFollowedFlow):
    """Rod Flow of any smooth optimizer (arXiv 2602.01480, 2605.06821), with one rod or several.

    The state is a centre c and a covariance Sigma in the optimizer's phase space, whose dimension
    n is the number of parameters P for gradient descent and 2 P with momentum. Up to `dense_limit`
    Sigma is a matrix (n, n); `project` keeps it symmetric and positive. Beyond it is a factor of
    rank + 4 rows (of rank rows where n > 100 000): no step can make it negative.

    An evaluation takes the map and one directional derivative of it at the 2 rank ends of the
    rods, and at the centre if there are several.

    Attributes:
        optimizer: The optimizer that is modelled. Its state must hold float arrays only.
        rank: How many rods, 1 to n; 1 is the paper's flow. "auto" keeps as many as carry `share`
            of trace(Sigma), and one more so that it sees an oscillation begin: at least 2, at most
            8; the last one is faded in.
        share: For `rank="auto"`, at least 0 and below 1.
        alignment: Whether the observables hold the sharpness at the centre and the rods' alignment
            with the top Hessian eigenvectors, which cost an eigen-iteration at each save.
        dense_limit: The largest n for which Sigma is a matrix.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range; from `init` if the rank is
            above n, or the optimizer's state or map does not suit.
    """

    optimizer: AbstractOptimizer
    rank: int | str = eqx.field(static=True)
    share: Float[Array, ""]
    alignment: bool = eqx.field(static=True)
    dense_limit: int = eqx.field(static=True)

    midpoint: ClassVar[Midpoint] = "two_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "alignment", "dense_limit")
    failures: ClassVar[tuple[str, ...]] = (
        "the directional derivative DF . F of the optimizer's map at the rods is not finite though "
        "the map is: the optimizer or the potential is not smooth there",
    )

    def __init__(
        self,
        optimizer: Any,
        rank: int | Literal["auto"] = 1,
        *,
        share: Any = 0.99,
        alignment: Any = True,
        dense_limit: Any = DENSE_LIMIT,
    ):
        if not isinstance(optimizer, AbstractOptimizer):
            raise ValueError(
                f"optimizer must be an optimizer such as GradientDescent(0.1); got {optimizer!r}."
            )
        if rank != "auto":
            rank = positive_integer("rank", rank)
        if not isinstance(alignment, bool):
            raise ValueError(f"alignment must be True or False; got {alignment!r}.")
        if dense_limit != 0:
            dense_limit = positive_integer("dense_limit", dense_limit)
        self.optimizer = optimizer
        self.rank = rank
        self.share = fraction("share", share)
        self.alignment = alignment
        self.dense_limit = dense_limit

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        described = {
            "predicted_loss": Variable(LOSS, "predicted average of the loss over the iterates"),
            "rod_half_lengths": Variable(
                PARAMETER, "square roots of Sigma's leading eigenvalues, in phase space", ("rod",)
            ),
            "rods_used": Variable(NONE, "how many rods have a length"),
        }
        if self.alignment:
            described["rod_alignments"] = Variable(
                NONE,
                "length of each rod's direction within the span of as many top eigenvectors of "
                "the Hessian as there are rods",
                ("rod",),
            )
            described["centre_sharpness"] = Variable(
                SHARPNESS, "largest eigenvalue of the Hessian at the rods' centre"
            )
        return described

    @property
    def equation(self) -> Any:
        """The right-hand side."""
        return self

    def init(self, potential: Potential, params: Params) -> RodState:
        """Return the state of the rod between the optimizer's first two states.

        The centre is (z_0 + z_1)/2 and Sigma = d_0 d_0^T with d_0 = (z_1 - z_0)/2. A factor's
        other rows are 1e-6 (float32: 1e-3) as long, from which the tangent field can turn them.

        Raises:
            ValueError: If the rank is above the dimension of phase space, or the optimizer's state
                is not of floats, or its map not smooth.
        """
        check_phase_space(self.optimizer, potential, params)
        first, unravel = ravel_pytree(self.optimizer.init(params))
        count = self._count(first.size)
        half = 0.5 * increments(self.optimizer, potential, unravel)(first)
        centre = unravel(first + half)
        if first.size <= self.dense_limit:
            return DenseRodState(centre, half[:, None] * half[None, :])
        rows = min(count + (_SPARE_ROWS if first.size <= _SPARED_SIZE else 0), first.size)
        others = random_modes(rows - 1, first.size, first.dtype) / jnp.sqrt(
            jnp.asarray(first.size, first.dtype)
        )
        short = _SHORT[str(first.dtype)] * jnp.linalg.norm(half)
        return LowRankRodState(centre, jnp.concatenate([half[None], short * others]))

    def rods(self, state: RodState, *, ordered: bool = False) -> Rods:
        """Return the rods d_i as rows, longest first, (rods, n); `ordered` as for `slope`."""
        count = self._count(flat_centre(state)[0].size)
        values, trace, rods = state.spectrum(count, ordered=ordered)
        if self.rank != "auto":
            return rods
        # Rod i + 1 is kept where i rods leave more than 1 - share; fully where twice as much.
        trace = jnp.where(trace > 0, trace, 1)
        left = jnp.concatenate([jnp.ones_like(values[:1]), 1 - jnp.cumsum(values[:-1]) / trace])
        left = jnp.concatenate([jnp.ones_like(left[:1]), left[:-1]])
        fade = jnp.clip(left / (1 - self.share.astype(left.dtype)) - 1, 0, 1)
        return jnp.sqrt(jnp.where(fade > 0, fade, 1))[:, None] * jnp.where(
            fade[:, None] > 0, rods, 0
        )

    def slope(self, state: RodState, potential: Potential, *, ordered: bool = False) -> RodSlope:
        """Return how the centre moves and the covariance is fed.

        Args:
            state: The state.
            potential: The loss.
            ordered: Whether the rows of a factor are known to be orthogonal, longest first.
        """
        centre, unravel = flat_centre(state)
        increment = increments(self.optimizer, potential, unravel)
        return rod_slope(increment, centre, self.rods(state, ordered=ordered))

    def vector_field(
        self, t: Real[Array, ""] | float, state: RodState, args: Potential
    ) -> RodState:
        """Return dc/dt, and dSigma/dt or how a factor of Sigma moves.

        A factor moves as Z' = (Z Z^T)^+ Z M (I - Pi/2) - Z with M = dSigma/dt + 2 Sigma and Pi the
        projection on the rows of Z, so that (Z^T Z)' is dSigma/dt projected on the matrices of
        that rank near Sigma. It is stiff while rows are much shorter than others.
        """
        del t
        _, unravel = flat_centre(state)
        found = self.slope(state, args)
        velocity, sources = unravel(found.velocity), found.sources
        if isinstance(state, DenseRodState):
            feed = jnp.matmul(sources.T, sources, precision="highest")
            return DenseRodState(velocity, feed - 2 * state.covariance)
        rows = state.factor
        gram = inner_products(rows, rows)
        short = _SHORT[str(rows.dtype)] ** 2 * jnp.trace(gram)
        tiny = jnp.finfo(rows.dtype).tiny
        gram = gram + (short + tiny) * jnp.eye(rows.shape[0], dtype=rows.dtype)
        overlaps = inner_products(rows, sources)
        weights = jnp.linalg.solve(gram, overlaps)
        own = 0.5 * jnp.matmul(weights.T, rows, precision="highest")
        turned = jnp.matmul(weights, sources - own, precision="highest")
        return LowRankRodState(velocity, turned - rows)

    def project(self, state: RodState, potential: Potential) -> tuple[RodState, Int[Array, ""]]:
        """Make Sigma symmetric and positive; a factor of it stays as it is.

        It fails where the optimizer's map has a value but no derivative.
        """
        if isinstance(state, DenseRodState):
            state = DenseRodState(state.centre, positive_part(state.covariance))
        centre, unravel = flat_centre(state)
        increment = increments(self.optimizer, potential, unravel)
        move = increment(centre)
        change = jax.jvp(increment, (centre,), (move,))[1]
        return state, (all_finite(state) & is_rough(move, change)).astype(jnp.int32)

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
        centre, unravel = flat_centre(state)
        rods = self.rods(state)

        def params(z: Array) -> Params:
            return self.optimizer.params(unravel(z))

        def excess(rod: Array) -> Array:
            return 0.5 * (potential(params(centre + rod)) + potential(params(centre - rod)))

        at_ends = jax.lax.map(excess, rods)
        middle = potential(params(centre))
        lengths = jnp.sqrt(state.spectrum(rods.shape[0])[0])
        used = jnp.sum(jnp.any(rods != 0, axis=1))
        return {
            "predicted_loss": middle + jnp.sum(at_ends - middle),
            "rod_half_lengths": lengths,
            "rods_used": used.astype(lengths.dtype),
        }

    def kept(self, state: RodState) -> Rods | None:
        """Return the rods' parts in the parameters, (rods, P); None without alignment."""
        if not self.alignment:
            return None
        _, unravel = flat_centre(state)

        def part(rod: Array) -> Array:
            return ravel_pytree(self.optimizer.params(unravel(rod)))[0]

        return jax.vmap(part)(self.rods(state))

    @property
    def kept_vectors(self) -> int:
        """As many as there are rods, or none without alignment."""
        rods = _MOST_RODS if self.rank == "auto" else int(self.rank)
        return rods if self.alignment else 0

    def first_memory(self, state: RodState) -> Rods | None:
        """Return random directions in place of the eigenvectors before."""
        if not self.alignment:
            return None
        flat, _ = ravel_pytree(self.params(state))
        return first_modes(self._count(flat_centre(state)[0].size), flat.size, flat.dtype)

    def followed(
        self, potential: Potential, params: Params, kept: Any, memory: Any
    ) -> tuple[dict[str, Array], Any, Cost]:
        """Return the alignments and the sharpness at the centre, starting from the last ones."""
        if not self.alignment:
            return {}, None, Cost()
        return alignment(potential, params, kept, memory)

    def integrator(self, dtype: Any) -> Integrator:
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
        return Integrator(RodSolver(self, diffrax.Tsit5()), controller)

    @property
    def point_cost(self) -> Cost:
        """What the map and one derivative of it cost at a point."""
        gradients = self.optimizer.cost.gradients
        return Cost(gradients=gradients, hvps=gradients)

    @property
    def cost(self) -> Cost | None:
        """The map and a derivative at each end of the rods; it varies for `rank="auto"`."""
        if self.rank == "auto":
            return None
        rods = int(self.rank)
        return self.point_cost * (2 * rods + (rods > 1))

    def _count(self, size: int) -> int:
        if self.rank == "auto":
            return min(_MOST_RODS, size)
        if int(self.rank) > size:
            raise ValueError(
                "rank must be at most the dimension of the optimizer's phase space, "
                f"{size}; got {self.rank}."
            )
        return int(self.rank)
