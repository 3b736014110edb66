"""The discrete methods against the authors' numbers, NumPy steps and statistics."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import flows
from sam_jax.flows import Method, iteration, networks
from sam_jax.toys import sparse_regression

REFERENCE = pathlib.Path(__file__).parents[1] / "reference" / "diag_nets.npz"
SMALL = sparse_regression.sample(0, n=4, d=5, nonzeros=2)


def one_step(method, x=SMALL.x, y=SMALL.y, **options):
    """The weights after a step of size 0.1 from alpha = 0.5, rho = 0.2 by default."""
    chosen = {"alpha": 0.5, "step_size": 0.1, "rho": 0.2} | options
    found = flows.iterate(x, y, method, times=np.asarray([1]), **chosen)
    return jax.tree.map(lambda a: np.asarray(a)[..., 0, :], found.params)


# The authors' one_sam ascends along the gradient of r^2, twice that of r^2 / 2.
@pytest.mark.parametrize(
    ("run", "method", "factor"),
    [
        ("gd", Method(), 1),
        ("gd_wd", Method(), 1),
        ("sgd", Method(batch_size=1), 1),
        ("n_sam_0", Method("max_sum"), 1),
        ("n_sam_1", Method("max_sum"), 1),
        ("one_sam_0", Method("sum_max"), 2),
        ("one_sam_1", Method("sum_max"), 2),
        ("one_sam_lossder_0", Method("sum_max", swap="derivative"), 2),
        ("one_sam_lossder_1", Method("sum_max", swap="derivative"), 2),
    ],
)
def test_every_iterate_of_the_authors_code(run, method, factor):
    with np.load(REFERENCE) as reference:
        numbers = {key: reference[key] for key in reference if "/" not in key}
        numbers |= {
            k[len(run) + 1 :]: v
            for k, v in reference.items()
            if k.startswith(run + "/")
        }
    method = Method(**(method.__dict__ | {"parametrization": "product"}))
    indices = numbers.get("index_stream")
    found = flows.iterate(
        numbers["X"],
        numbers["y"],
        method,
        times=numbers["checkpoints"],
        alpha=numbers["u0"][0],
        step_size=numbers["gamma"],
        rho=factor * numbers.get("rho", 0.0),
        weight_decay=numbers.get("wd", 0.0),
        indices=None if indices is None else indices[:, None],
    )
    np.testing.assert_allclose(found.params.u, numbers["u"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.params.v, numbers["v"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        found.losses, numbers["train_loss"], rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("kind", ["max_sum", "sum_max"])
def test_a_normalised_step(kind):
    x, y = SMALL.x, SMALL.y
    w, xt = np.full(10, 0.5), np.concatenate([SMALL.x, -SMALL.x], 1)

    def slope(w, rows):
        r = xt[rows] @ w**2 - y[rows]
        return r @ xt[rows] * w / len(r)

    groups = [slice(None)] if kind == "max_sum" else [slice(i, i + 1) for i in range(4)]
    slopes = []
    for rows in groups:
        up = slope(w, rows)
        slopes.append(slope(w + 0.2 * up / np.linalg.norm(up), rows))
    expected = w - 0.1 * np.mean(slopes, 0)
    received = np.concatenate(one_step(Method(kind, normalize=True), x, y))
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_a_stochastic_max_sum_step_ascends_on_all_examples():
    xt, w = np.concatenate([SMALL.x, -SMALL.x], 1), np.full(10, 0.5)
    ascended = w + 0.2 * (xt @ w**2 - SMALL.y) @ xt * w / 4
    r = xt[2] @ ascended**2 - SMALL.y[2]
    expected = w - 0.1 * r * xt[2] * ascended
    method = Method("max_sum", batch_size=1)
    received = one_step(method, indices=np.asarray([[2]]))
    np.testing.assert_allclose(np.concatenate(received), expected, rtol=1e-12)


def test_minibatches_are_uniform_and_drawn_anew():
    # With x = I an example moves one weight and no other.
    method = Method(batch_size=1)
    x, y = np.broadcast_to(np.eye(3), (400, 3, 3)), np.ones((400, 3))
    found = flows.iterate(x, y, method, times=np.arange(4), alpha=0.5, step_size=0.1)
    moved = np.diff(found.params.plus, axis=1) != 0
    np.testing.assert_array_equal(moved.sum(-1), 1)
    shares = moved.mean((0, 1))
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / 1200))
    drawn = moved.argmax(-1)
    repeats = np.mean(drawn[:, 1:] == drawn[:, :-1])
    np.testing.assert_allclose(repeats, 1 / 3, atol=4 * np.sqrt(2 / 9 / 800))


def test_label_noise_has_its_mean_and_deviation():
    # The gradient is linear in the targets: d w_+ = -gamma / n * w_+ * X^T r.
    copies = np.broadcast_to(SMALL.x, (2000, 4, 5)), np.broadcast_to(SMALL.y, (2000, 4))
    noisy = one_step(Method(), *copies, label_noise=0.3).plus
    clean = one_step(Method()).plus
    deviation = 0.1 * 0.3 / 4 * 0.5 * np.linalg.norm(SMALL.x, axis=0)
    np.testing.assert_allclose(
        noisy.mean(0), clean, atol=4 * deviation.max() / np.sqrt(2000)
    )
    np.testing.assert_allclose(noisy.std(0), deviation, rtol=0.1)


def test_label_noise_is_drawn_anew_at_every_iteration():
    # With x = I, w_+ falls to w_+ (1 - gamma r / 3): its ratios give r, and so noise.
    x, y = np.broadcast_to(np.eye(3), (1000, 3, 3)), np.ones((1000, 3))
    options = {"alpha": 0.5, "step_size": 0.1, "label_noise": 0.3}
    found = flows.iterate(x, y, Method(), times=np.arange(3), **options)
    plus, betas = found.params.plus, found.betas
    residuals = (1 - plus[:, 1:] / plus[:, :-1]) * 3 / 0.1
    noise = np.asarray(betas[:, :-1] - 1 - residuals)
    np.testing.assert_allclose(noise.std((0, 2)), 0.3, rtol=0.1)
    correlation = np.mean(noise[:, 0] * noise[:, 1]) / 0.3**2
    assert abs(correlation) < 4 / np.sqrt(3000)


def test_small_steps_follow_the_flow():
    x, y, _ = sparse_regression.sample(0, n=3, d=5, nonzeros=2)
    flow = flows.solve(x, y, alpha=0.3, rho=0.1, kind="sum_max", stiff=False)
    errors = []
    for gamma in (0.02, 0.01):
        found = flows.iterate(
            x,
            y,
            Method("sum_max"),
            times=np.asarray([int(400 / gamma)]),
            alpha=0.3,
            step_size=gamma,
            rho=0.1,
        )
        errors.append(np.linalg.norm(found.betas[0] - flow.beta))
    assert 1.8 < errors[0] / errors[1] < 2.2  # Euler's method is of first order


@pytest.mark.parametrize("kind", ["sum_max", "max_sum"])
def test_a_batch_is_its_single_problems_and_compiles_once(kind):
    data = sparse_regression.sample(range(3), n=4, d=5)
    steps = np.asarray([0.05, 0.1, 0.2])
    options = {"alpha": 0.3, "rho": 0.1, "times": np.asarray([0, 3, 50])}
    batch = flows.iterate(data.x, data.y, Method(kind), step_size=steps, **options)
    assert batch.betas.shape == (3, 3, 5)
    compiled = iteration._iterate._cache_size()
    longer = options | {"times": np.asarray([1, 30, 500]), "alpha": 0.1}
    flows.iterate(data.x, data.y, Method(kind), step_size=steps / 2, **longer)
    assert iteration._iterate._cache_size() == compiled
    for i in range(3):
        single = flows.iterate(
            data.x[i], data.y[i], Method(kind), step_size=steps[i], **options
        )
        np.testing.assert_allclose(batch.betas[i], single.betas, rtol=1e-11)
        np.testing.assert_allclose(batch.losses[i], single.losses, rtol=1e-11)


def test_the_start_is_recorded_as_iteration_0():
    found = flows.iterate(
        SMALL.x, SMALL.y, Method(), times=np.asarray([0]), alpha=0.3, step_size=0.1
    )
    assert isinstance(found.params, networks.Squares)
    np.testing.assert_array_equal(found.params.plus, np.full((1, 5), 0.3))
    np.testing.assert_allclose(found.losses, [np.mean(SMALL.y**2) / 4])


def test_divergence_is_reported_where_it_happens():
    options = {
        "times": np.asarray([10, 100, 1000]),
        "alpha": 0.3,
        "step_size": np.asarray([0.01, 50.0]),
    }
    with pytest.raises(ValueError, match=r"1 of 2.*\[1\].*step_size=50.*between.*10"):
        flows.iterate(SMALL.x, SMALL.y, Method(), **options)
    found = flows.iterate(SMALL.x, SMALL.y, Method(), **options, throw=False)
    np.testing.assert_array_equal(found.finite, [True, False])
    assert np.all(np.isfinite(found.losses[0]))


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        (Method("minmax"), {}, "erm"),
        (Method("sum_max", m=3), {}, r"\[1, 2, 4\]"),
        (Method("sum_max", m=2, batch_size=1), {}, r"\[1\]"),
        (Method(batch_size=0), {}, "batch_size"),
        (Method(parametrization="cubes"), {}, "squares, product"),
        (Method("sum_max", swap="sideways"), {}, "direction"),
        (Method(), {"indices": np.zeros((5, 2), int)}, "batch_size=None"),
        (Method(), {"step_size": 0.0}, "step_size=0.0.*> 0"),
        (Method(), {"alpha": -1.0}, "alpha=-1.0"),
        (Method(), {"label_noise": -1.0}, "label_noise"),
    ],
)
def test_unsuitable_arguments_are_refused(method, options, match):
    with pytest.raises(ValueError, match=match):
        one_step(method, **options)


def test_float32_mode_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        one_step(Method())


def test_log_times():
    received = flows.log_times(1000, 2)
    np.testing.assert_array_equal(received, [0, 1, 3, 10, 32, 100, 316, 1000])
    np.testing.assert_array_equal(flows.log_times(1), [0, 1])


def test_iterations_can_be_mapped():
    def end(gamma):
        return flows.iterate(
            SMALL.x,
            SMALL.y,
            Method("max_sum"),
            times=np.asarray([20]),
            alpha=0.3,
            step_size=gamma,
            rho=0.1,
        ).betas

    gammas = jnp.asarray([0.1, 0.2])
    expected = [end(gamma) for gamma in gammas]
    np.testing.assert_allclose(jax.vmap(end)(gammas), expected, rtol=1e-12)


@pytest.mark.parametrize("parametrization", ["squares", "product"])
def test_iterations_start_anywhere(parametrization):
    """A step of gradient descent from random numbers of both signs, written out."""
    first, second = np.random.default_rng(0).normal(size=(2, 5))
    method = Method(parametrization=parametrization)
    found = flows.iterate(
        SMALL.x,
        SMALL.y,
        method,
        times=np.asarray([0, 1]),
        start=(first, second),
        step_size=0.1,
    )
    product = parametrization == "product"
    beta = first * second if product else first**2 - second**2
    np.testing.assert_allclose(found.betas[0], beta, rtol=1e-12)
    slope = SMALL.x.T @ (SMALL.x @ beta - SMALL.y) / 4  # d loss / d beta
    slope, layers = (
        (slope, (second, first)) if product else (slope / 2, (2 * first, -2 * second))
    )
    for received, start, factor in zip(
        found.params, (first, second), layers, strict=True
    ):
        np.testing.assert_array_equal(received[0], start)
        np.testing.assert_allclose(
            received[1], start - 0.1 * slope * factor, rtol=1e-10
        )


def test_a_layer_at_zero_is_a_start_of_an_iteration():
    start = 0.5 * np.ones(5), np.zeros(5)
    method = Method(parametrization="product")
    options = {"times": np.arange(5), "step_size": 0.1}
    received = flows.iterate(SMALL.x, SMALL.y, method, start=start, **options)
    expected = flows.iterate(SMALL.x, SMALL.y, method, alpha=0.5, **options)
    np.testing.assert_array_equal(received.betas, expected.betas)
