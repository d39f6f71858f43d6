"""Solvers made for a flow take the same steps with their states as vectors."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array, PyTree

from flows import (
    AbstractFlow,
    BallCentreFlow,
    CentralFlow,
    GradientDescent,
    GradientFlow,
    HeavyBall,
    ParityFlow,
    RMSProp,
    RodFlow,
    RollingBall,
    simulate,
)
from flows.runs.integrated import integrated
from flows.solvers.controllers import GuardedController
from flows.solvers.packed import PackedSolver, Packing, select
from flows.solvers.projection import AbstractFlowSolver
from potentials import SharpValley
from tests.helpers import assert_trees_close

_VALLEY = SharpValley(0.01)
_START = {"x": jnp.asarray([0.0]), "y": jnp.asarray(6.65)}


def _loss(params: dict[str, Array]) -> Array:
    return _VALLEY(jnp.append(params["x"], params["y"]))


_FLOWS = {
    "central": CentralFlow(GradientDescent(0.3), rank=2),
    "central, adaptive": CentralFlow(RMSProp(0.3), rank=1),
    "rod": RodFlow(GradientDescent(0.3)),
    "rod, momentum": RodFlow(HeavyBall(0.3, 0.5), dense_limit=0),
    "rod, factor": RodFlow(GradientDescent(0.3), dense_limit=0),
    "ball": BallCentreFlow(RollingBall(0.3, radius=0.1)),
}
_QUICK = {"rod, factor"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["float32", "float64", "int32", "bool"]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=6,
    )
)
def test_a_tree_comes_back_from_its_vectors(kinds: list[tuple[str, list[int]]]) -> None:
    """With its structure, shapes and dtypes; packings of equal trees are equal."""
    tree = {
        str(i): [jnp.arange(int(jnp.prod(jnp.asarray(shape))), dtype=int).reshape(shape).astype(d)]
        for i, (d, shape) in enumerate(kinds)
    }
    packing = Packing.of(tree)
    vectors = packing.pack(tree)
    floating = {d for d, _ in kinds if d.startswith("float")}
    others = sum(not d.startswith("float") for d, _ in kinds)
    assert len(vectors) == len(floating) + others
    back = packing.unpack(vectors)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for before, after in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        assert jnp.array_equal(before, after)
    assert Packing.of(tree) == packing
    assert hash(Packing.of(tree)) == hash(packing)


def _solved(
    flow: AbstractFlow,
    potential: Callable[[PyTree[Array]], Array],
    packing: bool,
    adaptive: bool,
) -> PyTree[Array]:
    """Return saves within steps, the last state and the solver's."""
    solver, suited = flow.integrator(jnp.float64)
    assert isinstance(solver, AbstractFlowSolver)
    controller = GuardedController(suited) if adaptive else diffrax.ConstantStepSize()
    y0, own = jax.jit(lambda start: solver.start(flow.init(potential, start), potential))(_START)
    whole = integrated(flow, solver, controller, jnp.zeros(()), y0, own)
    assert isinstance(whole.solver, PackedSolver)
    if not packing:
        whole = eqx.tree_at(
            lambda w: (w.y0, w.solver, w.controller, w.solver_state),
            whole,
            (y0, solver, controller, own),
        )
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(whole.field),
        whole.solver,
        0.0,
        8.0,
        solver.first_step,
        whole.y0,
        potential,
        saveat=diffrax.SaveAt(ts=jnp.linspace(0.3, 8.0, 5), solver_state=True),
        stepsize_controller=whole.controller,
        solver_state=whole.solver_state,
    )
    ys, last = found.ys, found.solver_state
    if packing:
        ys, last = jax.vmap(whole.restore)(ys), whole.restore_solver(last)
    return ys, last, found.stats["num_steps"]


@pytest.mark.parametrize(
    "name",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in _FLOWS],
)
def test_packed_steps_are_those_of_the_solver(name: str) -> None:
    """Saves, the last state and the counts, where step sizes adapt."""
    flow = _FLOWS[name]
    plain = _solved(flow, _loss, packing=False, adaptive=True)
    # The error's norm is summed in another order, which the step sizes depend on.
    assert_trees_close(_solved(flow, _loss, packing=True, adaptive=True), plain, 1e-7, 1e-9)


def test_packed_steps_of_constant_length_are_exactly_those_of_the_solver() -> None:
    """Nothing but the norm of errors sees the packing."""
    flow = _FLOWS["rod, factor"]
    plain = _solved(flow, _loss, packing=False, adaptive=False)
    assert_trees_close(_solved(flow, _loss, packing=True, adaptive=False), plain, 0, 0)


@pytest.mark.parametrize("size", [3, 2**20])
def test_a_tree_is_selected_as_its_leaves_are(size):
    """As vectors if it is small, and leaf by leaf if it is large."""
    one = {"a": jnp.ones(size), "b": (jnp.asarray(2), jnp.full((2, 2), 3.0))}
    other = jax.tree.map(jnp.zeros_like, one)
    for condition, expected in ((True, one), (False, other)):
        assert_trees_close(select(jnp.asarray(condition), one, other), expected, 0, 0)
    operations = str(jax.make_jaxpr(lambda c: select(c, one, other))(jnp.asarray(True)))
    assert operations.count("select_n") == (2 if size == 3 else 3)


def test_large_states_and_other_controllers_are_left_as_they_are() -> None:
    """A copy would cost memory there, and other controllers look at the parts of a state."""
    flow = RodFlow(GradientDescent(0.3), rank=2)
    solver, _ = flow.integrator(jnp.float64)
    assert isinstance(solver, AbstractFlowSolver)
    shapes = jax.eval_shape(
        lambda w: solver.start(flow.init(jnp.sum, w), jnp.sum), jnp.zeros(2**18)
    )
    y0, own = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    large = integrated(flow, solver, diffrax.ConstantStepSize(), jnp.zeros(()), y0, own)
    assert large.solver is solver
    assert large.y0 is y0
    flow = ParityFlow(GradientDescent(0.3))
    solver, controller = flow.integrator(jnp.float64)
    assert isinstance(solver, AbstractFlowSolver)
    y0, own = solver.start(flow.init(_loss, _START), _loss)
    whole = integrated(flow, solver, GuardedController(controller), jnp.zeros(()), y0, own)
    assert whole.solver is solver
    assert whole.y0 is y0


@pytest.mark.parametrize("flow", [GradientFlow, RodFlow])
def test_a_controller_of_the_users_sees_the_parts_of_a_state(flow: type[AbstractFlow]) -> None:
    """One derived from diffrax's own too, whatever its constructor takes."""

    class Looking(diffrax.PIDController):
        def __init__(self, tolerance: float):
            super().__init__(rtol=tolerance, atol=tolerance, norm=optimistix.max_norm)

        def adapt_step_size(self, t0: Any, t1: Any, y0: Any, y1: Any, *others: Any) -> Any:
            _ = (y1 if flow is GradientFlow else y1.centre).params["x"]
            return super().adapt_step_size(t0, t1, y0, y1, *others)

    model = flow(GradientDescent(0.3))
    solver, suited = model.integrator(jnp.float64)
    y0, own = model.init(_loss, _START), None
    if isinstance(solver, AbstractFlowSolver):
        y0, own = solver.start(y0, _loss)
    for controller, changed in ((Looking(1e-4), False), (suited, True)):
        guarded = GuardedController(controller)
        whole = integrated(model, solver, guarded, jnp.zeros(()), y0, own)
        assert (whole.y0 is not y0) is changed
    run = simulate(model, _loss, _START, 2, measurements=(), stepsize_controller=Looking(1e-4))
    assert bool(run.succeeded)
