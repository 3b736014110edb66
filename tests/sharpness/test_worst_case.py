import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import sharpness
from sam_jax.core.objective import Objective
from tests.sharpness.problems import SQUARES, largest_rise, over_one, problem


def measure(params, batch, **options):
    return sharpness.worst_case(SQUARES, params, batch, errors=over_one, **options)


@pytest.mark.parametrize("rho", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("method", "close"), [("projected", 1e-2), ("apgd", 1e-4)])
def test_many_steps_reach_the_maximum_of_a_quadratic(method, close, rho):
    # Steps of fixed length end within one of them: 2 rho / 200 here.
    params, batch, hessian = problem()
    w = np.asarray(params["w"])
    received = measure(params, batch, rho=rho, method=method, steps=200)
    expected = largest_rise(hessian, w, rho)
    np.testing.assert_allclose(received.loss, expected, rtol=close)
    assert received.loss <= expected * (1 + 1e-9)
    np.testing.assert_allclose(received.loss_at_w, w @ hessian @ w / 2, rtol=1e-12)


def test_at_a_minimum_it_is_the_largest_eigenvalue():
    _, batch, hessian = problem()
    params = {"w": 1e-7 * jnp.ones(5)}  # at the minimum itself there is no gradient
    received = measure(params, batch, rho=0.3, steps=200)
    top = np.linalg.eigvalsh(hessian)[-1]
    np.testing.assert_allclose(received.loss, 0.5 * top * 0.3**2, rtol=1e-4)


def test_one_step_is_the_step_of_sam():
    params, batch, hessian = problem()
    w = np.asarray(params["w"])
    g = hessian @ w
    v = w + 0.2 * g / np.linalg.norm(g)
    expected = (v @ hessian @ v - w @ hessian @ w) / 2
    received = measure(params, batch, rho=0.2, method="one_step")
    np.testing.assert_allclose(received.loss, expected, rtol=1e-12)


def test_single_examples_have_a_closed_form_that_one_step_reaches():
    # Over the ball (b . w)^2 / 2 is largest where |b . w| has grown by rho |b|.
    params, batch, _ = problem()
    x, w = np.asarray(batch["x"]), np.asarray(params["w"])
    z, longer = np.abs(x @ w), 0.2 * np.linalg.norm(x, axis=1)
    expected = np.mean((z + longer) ** 2 - z**2) / 2
    received = measure(params, batch, rho=0.2, m=1, method="one_step")
    np.testing.assert_allclose(received.loss, expected, rtol=1e-12)
    expected = np.mean(z + longer > 1) - np.mean(z > 1)
    np.testing.assert_allclose(received.error, expected, atol=1e-7)


def test_smaller_groups_are_at_least_as_sharp():
    params, batch, _ = problem()
    by_m = [measure(params, batch, rho=0.5, m=m, steps=60).loss for m in (1, 3, 12)]
    assert by_m == sorted(by_m, reverse=True)
    whole = measure(params, batch, rho=0.5, steps=60)
    assert by_m[-1] == pytest.approx(whole.loss, rel=1e-12)


def two_layers(scale):
    """x -> v * relu(u x): the same function for every scale > 0."""
    objective = Objective(
        predict=lambda p, batch: jax.nn.relu(batch["x"] @ p["u"]) @ p["v"],
        loss=lambda outputs, batch: (outputs - batch["y"]) ** 2,
    )
    random = np.random.default_rng(1)
    u, v = random.normal(size=(3, 4)), random.normal(size=4)
    x, y = random.normal(size=(8, 3)), random.normal(size=8)
    params = {"u": jnp.asarray(scale * u), "v": jnp.asarray(v / scale)}
    return objective, params, {"x": jnp.asarray(x), "y": jnp.asarray(y)}


@pytest.mark.parametrize("method", ["one_step", "projected", "apgd"])
def test_adaptive_sharpness_does_not_see_a_rescaling_of_layers(method):
    def value(scale, adaptive):
        options = {"rho": 0.1, "adaptive": adaptive, "method": method, "m": 4}
        problem = two_layers(scale)
        return sharpness.worst_case(*problem, errors=over_one, **options).loss

    np.testing.assert_allclose(value(10.0, True), value(1.0, True), rtol=1e-8)
    assert abs(value(10.0, False) / value(1.0, False) - 1) > 0.5


def test_apgd_is_no_worse_than_projected_ascent_with_as_few_steps():
    params, batch, _ = problem(d=8, seed=3)
    rises = [
        measure(params, batch, rho=3.0, method=method, steps=20).loss
        for method in ("projected", "apgd")
    ]
    assert rises[1] >= rises[0]


def test_radius_zero_is_no_rise():
    params, batch, _ = problem()
    for method in ("one_step", "projected", "apgd"):
        received = measure(params, batch, rho=0.0, method=method, steps=3)
        assert received.loss == received.error == 0


def test_a_zero_gradient_gives_no_nan():
    _, batch, _ = problem()
    received = measure({"w": jnp.zeros(5)}, batch, rho=1.0, steps=3)
    assert received.loss == 0


def test_integer_leaves_stay():
    params, batch, _ = problem()
    expected = measure(params, batch, rho=0.2, steps=5)
    params["count"] = jnp.array(3)
    for adaptive in (False, True):
        measure(params, batch, rho=0.2, steps=5, adaptive=adaptive)
    assert measure(params, batch, rho=0.2, steps=5) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": -1.0}, "Received rho=-1.0"),
        ({"rho": 1.0, "m": 5}, "Received m=5 for 12 examples"),
        ({"rho": 1.0, "m": 0}, "Received m=0; give an integer >= 1"),
        ({"rho": 1.0, "method": "pgd"}, "known: one_step, projected, apgd"),
        ({"rho": 1.0, "steps": 0}, "Received steps=0"),
    ],
)
def test_wrong_arguments(options, message):
    params, batch, _ = problem()
    with pytest.raises(ValueError, match=message):
        measure(params, batch, **options)
