"""Central Flow as a flow: its parameters, its state and what it predicts; see `equation`."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Real

from ..core.arrays import Vector
from ..core.constrained import AbstractConstrained
from ..core.cost import Cost
from ..core.flow import (
    AbstractEquationFlow,
    AbstractPreconditionedFlow,
    AbstractResizableFlow,
    Integrator,
    Midpoint,
)
from ..core.optimizer import AbstractDescent, AbstractOptimizer
from ..core.potential import Potential
from ..core.schedules import is_scheduled
from ..core.trees import Params, is_traced
from ..core.validation import boolean, positive, positive_integer
from ..core.variables import STEPS, Variable
from ..curvature.eigenpairs import find_eigenpairs, random_modes
from ..linear_algebra.packed_symmetric import unpack
from ..optimizers.adaptive import AbstractAdaptiveDescent, AbstractSecondMomentMethod, check_average
from ..optimizers.optax_optimizer import OptaxOptimizer, as_descent, as_optimizer
from ..optimizers.second_moment import SecondMoment
from .equation import FAILURES, MARGIN, CentralEquation
from .observables import DIRECTIONS, PRECONDITIONED, PREDICTED, predictions
from .place import Place
from .preconditioning import Preconditioning
from .solver import ABSOLUTE_TOLERANCE, CentralSolver
from .state import CentralFlowState, unprojected_state

# The complementarity solver's limit, and what `rank="auto"` may grow to.
_MOST_MODES = 16
# From a warning of `review` to who called `simulate`; equinox puts a frame before each method.
_TO_THE_CALLER = 7
# A start whose sharpness is this many times the critical one is warned of.
_FAR_ABOVE = 1.1
# Where no rank is given, and what `rank="auto"` grows from; or all that there are.
_FIRST_MODES = 4

# The share of nu that a step keeps, below which nu is no slow average.
_SHORT_MEMORY = 0.8


def _descent(
    optimizer: AbstractOptimizer | optax.GradientTransformation,
) -> AbstractDescent | AbstractAdaptiveDescent:
    descent = as_descent(optimizer) or as_optimizer(optimizer)
    if isinstance(descent, AbstractDescent | AbstractAdaptiveDescent):
        return descent
    allowed = "optimizer must be GradientDescent, another AbstractDescent, RMSProp or ScalarRMSProp"
    if isinstance(descent, AbstractSecondMomentMethod):
        raise ValueError(
            f"{allowed}: Central Flow averages over an oscillation that has settled, and that of "
            f"{type(descent).__name__} need not, since its momentum makes it burst at the edge of "
            f"stability; RodFlow and ParityFlow follow it. Got {optimizer!r}."
        )
    if isinstance(descent, OptaxOptimizer) and _only_counts(descent):
        raise ValueError(
            f"{allowed}: Central Flow cannot take a schedule out of an optax transformation, which "
            "evaluates it at whole steps. Write GradientDescent(schedule) for "
            f"optax.sgd(schedule); got {optimizer!r}."
        )
    if isinstance(descent, AbstractConstrained):
        raise ValueError(
            f"{allowed}: Central Flow moves in flat space, and knows no oscillation on a manifold, "
            f"where {type(descent).__name__} stays; RiemannianFlow does not average over it. Got "
            f"{optimizer!r}."
        )
    raise ValueError(
        f"{allowed}: Central Flow models a step along the gradient, without memory of its "
        f"direction, and {type(descent).__name__} is not known to be one; got {optimizer!r}."
    )


def _only_counts(optimizer: OptaxOptimizer) -> bool:
    """Return True if a transformation remembers how many steps it took, and nothing else."""
    try:
        state = jax.eval_shape(optimizer.init, jnp.zeros(1)).transformation
    except Exception:  # Whatever the code of others raises: only a message depends on it.
        return False
    leaves = jax.tree.leaves(state)
    return bool(leaves) and all(jnp.issubdtype(x.dtype, jnp.integer) for x in leaves)


def _rank(value: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
    if value is None or value == "auto":
        return value
    rank = positive_integer("rank", value)
    if rank > _MOST_MODES:
        raise ValueError(f'rank must be at most {_MOST_MODES}, or "auto"; got {rank}.')
    return rank


def _check_memory(optimizer: AbstractAdaptiveDescent) -> None:
    """Warn of an average of squares that is hardly one; refuse none at all."""
    check_average(optimizer)
    b2 = optimizer.average.b2
    if not is_traced(b2) and float(b2) < _SHORT_MEMORY:
        warnings.warn(
            f"b2 = {float(b2):g} averages squared gradients over {1 / (1 - float(b2)):.1f} steps "
            "only. Central Flow takes that average for slow beside an oscillation of period 2: "
            f"below {_SHORT_MEMORY:g} it is not accurate.",
            stacklevel=4,
        )


class CentralFlow(AbstractEquationFlow, AbstractResizableFlow, AbstractPreconditionedFlow):
    """Central Flow: the time-averaged path of gradient descent at the edge of stability.

    It models the average w of the iterates, and the covariance Sigma of their oscillation in the
    directions whose curvature is at the critical sharpness S = 2/eta (arXiv 2410.24206):

        dw/dt = -eta [ g(w) + (1/2) grad_w <H(w), Sigma> ],

    with the least Sigma >= 0 that lets no eigenvalue of H rise above S. It is Sigma = U X U^T with
    the eigenvectors U of the k watched eigenvalues, and X solves the problem of
    `solve_complementarity`, where A + B[X] is how fast these eigenvalues would fall:

        X >= 0,   A + B[X] >= 0,   <X, A + B[X]> = 0.

    One evaluation costs a gradient, a few Hessian-vector products for the eigenvectors
    (their iteration starts from those of the last accepted step) and, only while an eigenvalue is
    near S, k (k + 1) / 2 third derivatives. Above 512 parameters nothing
    of size P x P is built; an eigenvalue that overtakes the watched ones is then seen by what its
    eigenvector shares with theirs, and not at all where the loss decouples exactly.

    For `RMSProp` and `ScalarRMSProp` the eigenvalues are those of P^-1 H, with P = sqrt(nu) + eps,
    and nu is followed beside w, rho = (1 - b2)/b2 (arXiv 2410.24206, sections 4 and 5):

        dw/dt = -eta P^-1 [ g + (1/2) grad_w <H, Sigma> ],
        dnu/dt = rho ( g^2 + diag(H Sigma H) - nu ).

    At time 0 nu is what the first step divides by.

    Attributes:
        optimizer: The descent that is modelled, such as `GradientDescent(0.1)` or `RMSProp(0.01)`;
            its learning rate may be a schedule.
        rank: How many eigenvalues to watch, 1 to min(P, 16): all that may reach S. If the smallest
            of them comes within 5% of S, a warning says so. None, the default, is min(P, 4).
            "auto" starts with these and repeats a segment with two more where the smallest comes
            so close, with twice as many where it is above S by more; not inside `jax.jit` or
            `jax.vmap`.
        relaxation_time: tau, in steps, above 0: how fast an eigenvalue above S returns to it. It
            does not change the solution, only how stiff the equation is.
        correction: Add the backward-error term of gradient flow (arXiv 2009.11162) to the centre:
            dw/dt = -eta (1 + (eta/2) H) [ g + (1/2) grad <H, Sigma> ]. Neither for adaptive
            methods nor for schedules.
        alternation: Correct for the part of RMSProp's nu that alternates with the iterates, which
            is ours: without it the flow's error does not vanish with eta, but is of the order of
            1 - b2. Only for `RMSProp`; `ScalarRMSProp` does not need it.
        directions: True if the observables shall hold the eigenvectors of Sigma.

    Raises:
        ValueError: If an argument is of the wrong kind or out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flows import CentralFlow, GradientDescent, simulate
        >>> from potentials import SharpValley
        >>> flow = CentralFlow(GradientDescent(0.3))
        >>> run = simulate(flow, SharpValley(0.01), jnp.asarray([0.0, 6.65]), steps=20)
        >>> sharpness = run.observables["watched_eigenvalues"][:, 0]
        >>> print(f"{sharpness[0]:.3f} {sharpness[-1]:.3f}, and 2/eta is {2 / 0.3:.3f}")
        6.650 6.667, and 2/eta is 6.667
        >>> int(run.observables["critical_rank"][-1])
        1
    """

    optimizer: AbstractDescent | AbstractAdaptiveDescent = eqx.field(converter=_descent)
    rank: int | Literal["auto"] | None = eqx.field(static=True, default=None, converter=_rank)
    relaxation_time: Float[Array, ""] = eqx.field(
        default=0.25, converter=partial(positive, "relaxation_time")
    )
    correction: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "correction")
    )
    directions: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "directions")
    )
    alternation: bool = eqx.field(
        static=True, default=False, converter=partial(boolean, "alternation"), kw_only=True
    )

    midpoint: ClassVar[Midpoint] = "three_point"
    time_unit: ClassVar[str] = STEPS
    structural_fields: ClassVar[tuple[str, ...]] = ("rank", "correction")
    failures: ClassVar[tuple[str, ...]] = FAILURES

    def __check_init__(self) -> None:
        if isinstance(self.optimizer, AbstractAdaptiveDescent):
            if self.correction:
                raise ValueError(
                    "correction must be False for an adaptive method, whose backward error has "
                    "other terms; got True."
                )
            _check_memory(self.optimizer)
        if self.correction and is_scheduled(self.optimizer):
            raise ValueError(
                "correction must be False for a learning rate that is a schedule, whose rate of "
                "change is another term of the backward error; got True."
            )
        if self.alternation and self._moving is None:
            raise ValueError(
                f"alternation must be False for {type(self.optimizer).__name__}: it corrects for "
                "an average of squares of each parameter; got True."
            )

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Metadata of the observables."""
        predicted = PREDICTED if self._average is None else {**PREDICTED, **PRECONDITIONED}
        return {**predicted, **DIRECTIONS} if self.directions else predicted

    @property
    def equation(self) -> CentralEquation:
        """The right-hand side."""
        average = self._average
        return CentralEquation(
            optimizer=self.optimizer,
            relaxation_time=self.relaxation_time,
            correction=self.correction,
            preconditioning=None if average is None else Preconditioning(average, self.alternation),
        )

    def counted_init(self, potential: Potential, params: Params) -> tuple[CentralFlowState, Cost]:
        """Return `init(potential, params)` and what it costs: the first gradient, for its nu."""
        return self.init(potential, params), Cost(gradients=int(self._average is not None))

    def init(self, potential: Potential, params: Params) -> CentralFlowState:
        """Return the state at `params`, with random modes: `project` finds the eigenvectors.

        Raises:
            ValueError: If a `rank` was given that is above the number of parameters, or the
                optimizer's `initial_nu` is not like its second moment.
        """
        flat, _ = ravel_pytree(params)
        count = self.rank if isinstance(self.rank, int) else min(_FIRST_MODES, flat.size)
        if count > flat.size:
            raise ValueError(
                f"rank must be at most the number of parameters, {flat.size}; got {count}."
            )
        modes = random_modes(count, flat.size, flat.dtype)
        second_moment, counted = None, is_scheduled(self.optimizer)
        if isinstance(self.optimizer, AbstractAdaptiveDescent):
            first, average = self.optimizer.init(params), self.optimizer.average
            second_moment = average.after(first.second_moment, jax.grad(potential)(params))
            counted = first.count is not None
        time = jnp.zeros((), flat.dtype) if counted else None
        place = Place(params, second_moment, time)
        return unprojected_state(place, modes, -jnp.ones((), flat.dtype))

    def vector_field(
        self, t: Real[Array, ""] | float, state: CentralFlowState, args: Potential
    ) -> CentralFlowState:
        """Return dw/dt; not a number where the eigenvectors or Sigma could not be found.

        An adaptive solver then tries a shorter step, from where the last eigenvectors are closer.
        """
        del t
        equation, place = self.equation, state.place
        loss = equation.objective(args)
        model, _ = equation.curvature_model(loss, place, state.modes)
        found = equation.respond(jax.linearize(jax.grad(loss), place.params), model, place)
        _, unravel = place.flat()
        passing = None if place.time is None else jnp.ones_like(place.time)
        velocity = unravel(jnp.where(found.solved, found.velocity, jnp.nan), passing)
        excess = jnp.maximum(state.excess_at_start, 0)
        return state.rates(velocity, -excess / self.relaxation_time.astype(excess.dtype))

    def project(
        self, state: CentralFlowState, potential: Potential
    ) -> tuple[CentralFlowState, Int[Array, ""]]:
        """Find the eigenvectors and the covariance at the current point anew.

        Returns:
            The state, and 0, or i where `failures[i - 1]` happened.
        """
        equation, place = self.equation, state.place
        loss = equation.objective(potential)
        model, modes = equation.curvature_model(loss, place, state.modes)
        found = equation.respond(jax.linearize(jax.grad(loss), place.params), model, place)
        return equation.renewed(state, model, modes, found), found.failure

    def review(self, start: CentralFlowState, end: CentralFlowState) -> CentralFlowState | None:
        """Return a start that watches more eigenvalues, if too few were watched to be sure.

        With a fixed rank there is only a warning. Another warning is of a start above the edge.
        """
        again = self._with_more_modes(start, end)
        if again is None and start is end:
            self._warn_if_above_the_edge(start)
        return again

    def shortage(self, state: CentralFlowState, potential: Potential) -> str:
        """Return how many eigenvalues are at the edge, if that is more than are watched."""
        watched, size = state.modes.shape
        finite = all(
            bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((state.params, state.modes))
        )
        if watched == size or not finite or not float(state.watched_margin) >= 1 - MARGIN:
            return ""
        equation = self.equation
        _, threshold = equation.rates(state.time, state.modes.dtype)
        count = min(_MOST_MODES, size)
        start = random_modes(count, size, state.modes.dtype).at[:watched].set(state.modes)
        pairs = find_eigenpairs(
            equation.objective(potential),
            state.params,
            count,
            start=start,
            metric=equation.metric_at(state.place),
        )
        near = int(jnp.sum(pairs.values >= (1 - MARGIN) * threshold))
        if near <= watched:
            return ""
        return (
            f"{near} eigenvalues of the Hessian{' or more' if near == count else ''} are within "
            f"{MARGIN:.0%} of the critical sharpness, {float(threshold):.4g}, or above it, and "
            f"CentralFlow watches {watched}, which no motion then holds at the edge. Give a rank "
            f'of at least {near}, or rank="auto"'
        )

    def _with_more_modes(
        self, start: CentralFlowState, end: CentralFlowState
    ) -> CentralFlowState | None:
        watched, size = end.modes.shape
        watched_margin = float(end.watched_margin)
        if not watched_margin >= 1 - MARGIN or watched == size:
            return None
        most = min(_MOST_MODES, size)
        if self.rank == "auto" and watched < most:
            # Where all are far above the threshold, which only a start can be, there are many.
            wanted = 2 * watched if watched_margin > 1 + MARGIN else watched + 2
            more = random_modes(min(wanted, most), size, end.modes.dtype)
            modes = jnp.concatenate([start.modes, more[watched:]])
            return unprojected_state(start.place, modes, start.excess_at_start)
        if start is end:
            # The warning follows at the end of the segment, once.
            return None
        warnings.warn(
            f"the smallest of the {watched} eigenvalues that CentralFlow watches came within "
            f"{MARGIN:.0%} of the critical sharpness (it reached {watched_margin:.3f} of it): "
            "eigenvalues that are not watched may become critical too. Give a larger rank, or "
            'rank="auto".',
            stacklevel=_TO_THE_CALLER,
        )
        return None

    def _warn_if_above_the_edge(self, start: CentralFlowState) -> None:
        equation = self.equation
        _, threshold = equation.rates(start.time, start.modes.dtype)
        critical = float(threshold) - float(equation.decay)
        ratio = 1 + float(start.excess_at_start) / critical
        if ratio > _FAR_ABOVE:
            warnings.warn(
                f"the start's sharpness is {ratio:.3g} times the critical sharpness, "
                f"{critical:.4g}, where {type(self.optimizer).__name__} oscillates and grows at "
                "once: it diverges, or settles somewhere else. CentralFlow lets the sharpness fall "
                "to the threshold within some steps of relaxation_time, which does not model that. "
                "Begin where the sharpness is below it, or where the optimizer has settled.",
                stacklevel=_TO_THE_CALLER,
            )

    def params(self, state: CentralFlowState) -> Params:
        """Return the centre."""
        return state.params

    def observables(self, state: CentralFlowState, potential: Potential) -> dict[str, Array]:
        """Return what the flow predicts of the optimizer, and how well it was solved.

        The watched eigenvalues are those of the last projection, interpolated between two.
        """
        equation, dtype, count = self.equation, state.modes.dtype, state.modes.shape[0]
        loss, gradient = jax.value_and_grad(potential)(state.params)
        return predictions(
            state,
            loss,
            ravel_pytree(gradient)[0],
            jnp.linalg.eigvalsh(unpack(state.curvature, count))[::-1],
            equation.rates(state.time, dtype)[1] - equation.decay.astype(dtype),
            equation.metric_at(state.place),
            width=min(_MOST_MODES, state.modes.shape[1]) if self.rank == "auto" else count,
            directions=self.directions,
        )

    @property
    def observables_cost(self) -> Cost:
        """A gradient."""
        return Cost(gradients=1)

    def preconditioner(self, state: CentralFlowState, potential: Potential) -> Vector | None:
        """Return the diagonal of P, (P,), for an adaptive method."""
        del potential
        moving = self.equation.preconditioning
        return None if moving is None else moving.diagonal(state.place)

    def integrator(self, dtype: DTypeLike) -> Integrator:
        """Return the solver made for this flow, at 1e-6 relative in float64, 2.5e-3 in float32."""
        tolerance = 1e-6 if jnp.finfo(dtype).bits > 32 else 2.5e-3
        solver = CentralSolver(self.equation)
        controller = diffrax.PIDController(
            rtol=tolerance,
            atol=ABSOLUTE_TOLERANCE * tolerance,
            dtmax=0.999 * solver.longest_step.astype(dtype),
        )
        return Integrator(solver, controller)

    @property
    def _average(self) -> SecondMoment | None:
        """The conventions of nu, for an adaptive method."""
        optimizer = self.optimizer
        return optimizer.average if isinstance(optimizer, AbstractAdaptiveDescent) else None

    @property
    def _moving(self) -> SecondMoment | None:
        """The same where each parameter has a nu of its own."""
        average = self._average
        return None if average is None or average.shared else average
