"""Observables of curvature along directions, in parts, and of a network's examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from flows import (
    ClassLosses,
    CriticalLearningRate,
    Curvature,
    DirectionalCurvature,
    EigenvectorOverlap,
    GaussNewton,
    GradientDescent,
    GroupSharpness,
    LossAndGradient,
    OnExamples,
    RMSProp,
    iterate,
    measure,
)
from potentials import MLP, DataParallel, SupervisedPotential, cross_entropy, mse
from tests.helpers import as_users_run, assert_trees_close

SCALES = jnp.asarray([1.0, 2.0, 5.0])
START = jnp.asarray([3.0, -1.0, 0.5])


def bowl(w):
    """A quadratic."""
    return 0.5 * jnp.sum(SCALES.astype(w.dtype) * w**2)


def at(params):
    """A path of one point."""
    return jax.tree.map(lambda x: jnp.asarray(x)[None], params)


def classifier(criterion=cross_entropy) -> SupervisedPotential:
    """Six examples of three classes, one of which has none; a network of 14 weights."""
    keys = jax.random.split(jax.random.key(2), 2)
    inputs = jax.random.normal(keys[0], (6, 1))
    targets = jnp.eye(3)[jnp.asarray([0, 0, 2, 2, 2, 0])]
    return SupervisedPotential(MLP((1, 2, 3), key=keys[1]), inputs, targets, criterion)


def test_curvature_along_the_gradient_and_the_step_that_raises_the_loss_agree():
    """On a quadratic g^T H g / g^T g = 2 / eta_c, also along the update of RMSProp."""
    run = iterate(
        RMSProp(0.01, b2=0.9),
        bowl,
        START,
        3,
        measurements=(DirectionalCurvature(), CriticalLearningRate(1e-9)),
    )
    found = run.observables
    w = np.asarray(run.params)
    scales = np.asarray(SCALES)
    gradients = w * scales
    expected = (gradients**2 @ scales) / (gradients**2).sum(axis=1)
    assert found["gradient_curvature"] == pytest.approx(expected, rel=1e-12)
    assert found["step_sharpness"] == pytest.approx(np.asarray(found["update_curvature"]), rel=1e-7)
    # The preconditioner tells them apart.
    assert np.abs(found["update_curvature"] / expected - 1).min() > 0.01
    # From the second save on the search begins near the answer.
    assert found["critical_learning_rate_evaluations"].shape == (4,)


def test_few_losses_suffice_where_the_curvature_changes_little():
    """Fewer than ten for 1%, from the second measurement on."""
    values, _ = measure(
        CriticalLearningRate(), bowl, jnp.stack([START, 0.98 * START, 0.97 * START])
    )
    assert values["step_sharpness"] == pytest.approx(
        np.asarray(measure(DirectionalCurvature(), bowl, at(START))[0]["update_curvature"])[
            [0, 0, 0]
        ],
        rel=5e-3,
    )
    assert values["critical_learning_rate_evaluations"][1:].max() < 10


@pytest.mark.parametrize(
    ("loss", "start", "expected"),
    [
        # The loss rises beyond w = -1 and never otherwise; the step from 1 along g = 3.
        (lambda w: jnp.sum(jnp.where(w < -1, (w + 1) ** 2 * 1e9, 0) + 3 * w), 1.0, 2 / 3),
        # It falls without end.
        (lambda w: jnp.sum(w), 1.0, np.nan),
        # At rest.
        (lambda w: jnp.sum(w**2), 0.0, np.nan),
        # log is not a number where the step leads across zero: the loss counts as risen.
        (lambda w: jnp.sum(jnp.log(w)), 2.0, 4.0),
    ],
)
def test_the_critical_learning_rate_of_other_losses(loss, start, expected):
    """By hand; nan where there is none."""
    values, _ = measure(CriticalLearningRate(1e-6), loss, jnp.asarray([[start]]))
    assert values["critical_learning_rate"][0] == pytest.approx(expected, rel=1e-4, nan_ok=True)


@pytest.mark.slow
def test_gauss_newton_is_the_jacobians_square():
    """Against J^T C J from dense Jacobians, for cross entropy; in chunks too."""
    loss = classifier()
    flat, unravel = ravel_pytree(loss.params)

    def outputs(w):
        return loss.predict(unravel(w))

    jacobian = jax.jacfwd(outputs)(flat)
    curvature = jax.vmap(jax.hessian(cross_entropy))(outputs(flat), loss.targets)
    matrix = jnp.einsum("nkp,nkl,nlq->pq", jacobian, curvature, jacobian) / 6
    expected = jnp.linalg.eigvalsh(matrix)[::-1][:3]
    chunked = SupervisedPotential(
        loss.model(loss.params), loss.inputs, loss.targets, cross_entropy, chunk_size=4
    )
    values, _ = measure(GaussNewton(3), chunked, at(loss.params))
    assert values["gauss_newton_eigenvalues"][0] == pytest.approx(np.asarray(expected), abs=1e-10)
    assert values["gauss_newton_sharpness"][0] == values["gauss_newton_eigenvalues"][0, 0]


def test_of_a_linear_model_gauss_newton_is_the_hessian():
    """The model's own curvature is what it leaves out."""
    loss = classifier(mse)
    linear = SupervisedPotential(MLP((1, 3), key=jax.random.key(0)), loss.inputs, loss.targets, mse)
    values, _ = measure((GaussNewton(2), Curvature(2)), linear, at(linear.params))
    assert_trees_close(values["gauss_newton_eigenvalues"], values["eigenvalues"], rtol=1e-10)


def test_classes_add_up_to_the_loss_and_have_the_sharpness_of_their_own_examples():
    """A class without examples has neither."""
    loss = classifier()
    values, _ = measure(ClassLosses(sharpness=True), loss, at(loss.params))
    first = [0, 1, 5]
    part = OnExamples(Curvature(1), first, name="first")
    of_part, _ = measure(part, loss, at(loss.params))
    assert jnp.isnan(values["class_loss"][0, 1])
    assert jnp.isnan(values["class_sharpness"][0, 1])
    mean = 0.5 * (values["class_loss"][0, 0] + values["class_loss"][0, 2])
    assert mean == pytest.approx(float(loss(loss.params)), rel=1e-12)
    assert values["class_sharpness"][0, 0] == pytest.approx(
        float(of_part["first_sharpness"][0]), rel=1e-10
    )


def test_a_subset_is_drawn_once_and_measured_under_its_name():
    """All examples give the loss itself; a part of them that of those, the same at each save."""
    loss = classifier()
    path = jax.tree.map(lambda x: jnp.stack([x, x]), loss.params)
    measured = (
        LossAndGradient(),
        OnExamples(LossAndGradient(), 6, name="all"),
        OnExamples(Curvature(1), 2, seed=3, name="two"),
    )
    values, _ = measure(measured, loss, path)
    assert values["all_loss"] == pytest.approx(np.asarray(values["loss"]), rel=1e-12)
    assert values["two_sharpness"][0] == values["two_sharpness"][1]
    assert measured[2].variables["two_eigenvalues"].dims == ("two_mode",)


def test_a_subset_is_measured_in_the_metric_of_the_run():
    """All examples give what is measured without a subset, of RMSProp."""
    loss = classifier()
    both = (DirectionalCurvature(), OnExamples(DirectionalCurvature(), 6, name="all"))
    run = iterate(RMSProp(0.01), loss, loss.params, 1, measurements=both)
    found = run.observables
    assert found["all_update_curvature"] == pytest.approx(
        np.asarray(found["update_curvature"]), rel=1e-9
    )
    assert np.abs(found["update_curvature"] / found["gradient_curvature"] - 1).min() > 0.01


@pytest.mark.slow
def test_blocks_have_the_eigenvalues_of_the_diagonal_blocks():
    """Of the arrays that a pattern names, here a layer and the bias of the next."""
    loss = classifier()
    flat, unravel = ravel_pytree(loss.params)
    hessian = jax.hessian(lambda w: loss(unravel(w)))(flat)
    layer, bias = slice(0, 4), slice(10, 13)
    expected = [float(jnp.linalg.eigvalsh(hessian[b, b])[-1]) for b in (layer, bias)]
    groups = GroupSharpness(("layers.0.*", "layers.1.bias"))
    values, _ = measure(groups, loss, at(loss.params))
    assert values["group_sharpness"][0] == pytest.approx(expected, abs=1e-10)


def test_overlaps_are_one_where_nothing_turns_and_the_rotation_where_something_does():
    """An angle between the eigenvectors is its cosine and sine; the span stays the same."""

    def turning(w):
        angle = w[2]
        x = jnp.cos(angle) * w[0] + jnp.sin(angle) * w[1]
        y = jnp.cos(angle) * w[1] - jnp.sin(angle) * w[0]
        return 0.5 * (5 * x**2 + 3 * y**2)

    path = jnp.asarray([[0.0, 0.0, angle] for angle in (0.0, 0.0, 0.3, 0.3 + np.pi / 2)])
    values, _ = measure(EigenvectorOverlap(2), turning, path)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    expected = [np.eye(2), [[cosine, sine], [sine, cosine]], [[0, 1], [1, 0]]]
    assert np.isnan(values["eigenvector_overlaps"][0]).all()
    assert values["eigenvector_overlaps"][1:] == pytest.approx(np.array(expected), abs=1e-12)
    assert values["subspace_overlap"][1:] == pytest.approx(1.0, abs=1e-12)
    last = [[sine, cosine], [cosine, sine]]
    assert values["first_eigenvector_overlaps"][3] == pytest.approx(np.array(last), abs=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_they_stay_in_float32_and_map_over_learning_rates():
    """One compiled run of three members, each as by itself."""
    measured = (
        DirectionalCurvature(),
        CriticalLearningRate(),
        GroupSharpness(),
        EigenvectorOverlap(1, every=2),
    )

    def run(rate):
        found = iterate(
            GradientDescent(rate), bowl, START.astype("float32"), 2, measurements=measured
        )
        return found.observables

    batch = jax.vmap(run)(jnp.asarray([0.1, 0.2], jnp.float32))
    alone = run(jnp.asarray(0.2, jnp.float32))
    assert {x.dtype for x in batch.values()} == {jnp.dtype("float32")}
    assert_trees_close(jax.tree.map(lambda x: x[1], batch), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("measurement", "sentence"),
    [
        (GaussNewton(), "a method `linearised`, for Gauss-Newton eigenvalues"),
        (ClassLosses(), "a method `example_losses`, for losses of classes"),
        (OnExamples(Curvature(1), 3), "a method `subset`, for a part of the examples"),
    ],
)
def test_a_loss_that_is_only_a_number_is_refused(measurement, sentence):
    """So is one spread over devices, which has no such methods."""
    with pytest.raises(ValueError, match=sentence):
        measure(measurement, bowl, at(START))
    spread = DataParallel(classifier(), jax.local_devices()[:1])
    with pytest.raises(ValueError, match=f"{sentence}.*got a DataParallel"):
        measure(measurement, spread, at(spread.params))


def test_what_does_not_fit_is_refused():
    """By name, with what is allowed."""
    loss = classifier()
    regression = SupervisedPotential(
        MLP((1, 2), key=jax.random.key(0)), loss.inputs, 0.3 * jnp.ones((6, 2)), mse
    )
    with pytest.raises(ValueError, match="must be a classifier's for losses of classes"):
        measure(ClassLosses(), regression, at(regression.params))
    with pytest.raises(ValueError, match="examples must be at most 6, all there are; got 7"):
        measure(OnExamples(Curvature(1), 7), loss, at(loss.params))
    with pytest.raises(
        ValueError, match=r"'w' fits none of 'layers\.0\.weight', 'layers\.0\.bias'"
    ):
        measure(GroupSharpness(("w",)), loss, at(loss.params))
    with as_users_run(), pytest.raises(ValueError, match="groups must be patterns of paths"):
        GroupSharpness("weight")
    with as_users_run(), pytest.raises(ValueError, match="measurement must be one such as"):
        OnExamples(Curvature, 3)


def test_the_losses_of_examples_have_the_loss_for_their_mean():
    """In chunks too, of a subset smaller than a chunk as well."""
    loss = classifier()
    assert jnp.mean(loss.example_losses(loss.params)) == pytest.approx(
        float(loss(loss.params)), rel=1e-12
    )
    whole = SupervisedPotential(
        loss.model(loss.params), loss.inputs, loss.targets, cross_entropy, chunk_size=4
    )
    part = whole.subset(jnp.asarray([1, 4]))
    expected = whole.example_losses(loss.params)[jnp.asarray([1, 4])]
    assert_trees_close(part.example_losses(loss.params), expected, rtol=1e-12)
    assert part(loss.params) == pytest.approx(float(jnp.mean(expected)), rel=1e-12)


def test_examples_that_there_are_not_are_refused():
    """Indices outside of the data would be other examples."""
    whole = SupervisedPotential(
        MLP((3, 2), key=jax.random.key(0)), jnp.ones((5, 3)), jnp.ones((5, 2)), mse
    )
    path = jax.tree.map(lambda x: x[None], whole.params)
    with pytest.raises(ValueError, match=r"examples must be indices below 5, .* got 500"):
        measure(OnExamples(LossAndGradient(), [0, 500]), whole, path)
    with pytest.raises(ValueError, match=r"examples must be indices of at least 0; got -7"):
        OnExamples(LossAndGradient(), [0, -7])
    with pytest.raises(ValueError, match="seed must be an integer from 0 to 4294967295"):
        OnExamples(LossAndGradient(), 2, seed=2**70)


def test_no_step_lowers_a_loss_at_its_kink():
    """There the critical learning rate is not a number, and the next one is found again."""
    path = jnp.asarray([[0.0], [1.0]])
    loss = lambda w: w[0] + jnp.where(w[0] < 0, 1e3, 0.0)  # noqa: E731
    found = measure(CriticalLearningRate(), loss, path)[0]["critical_learning_rate"]
    assert bool(jnp.isnan(found[0]))
    assert 0.9 < float(found[1]) < 1.1
