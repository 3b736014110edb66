"""Predictions and kinks against NumPy; SAM flattens what gradient descent leaves."""

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.toys import descent, relu_network


def test_prediction_is_numpys():
    params = relu_network.start(jax.random.key(0), width=7)
    x, _ = relu_network.points()
    slope, bias, output = (np.asarray(params[k]) for k in ("slope", "bias", "output"))
    expected = [np.maximum(slope * xi + bias, 0) @ output for xi in np.asarray(x)]
    np.testing.assert_allclose(relu_network.predict(params, x), expected, rtol=1e-12)


def test_start_has_the_scales_it_says():
    params = relu_network.start(jax.random.key(1), width=20_000, scale=2.0)
    assert set(np.unique(params["slope"])) == {-5.0, 5.0}
    np.testing.assert_allclose(np.std(params["bias"]), 5.0, rtol=0.02)
    np.testing.assert_allclose(np.std(params["output"]), 8.0, rtol=0.02)


def test_slope_variation_counts_what_a_fine_grid_sees():
    params = relu_network.start(jax.random.key(2), width=9)
    variation = relu_network.slope_variation(params, -1.0, 1.0)
    x = jnp.linspace(-1, 1, 20_001)
    slopes = np.diff(relu_network.predict(params, x)) / (2 / 20_000)
    seen = np.abs(np.diff(slopes))
    np.testing.assert_allclose(variation, seen.sum(), rtol=1e-6)


def test_gradient_of_the_objective_is_the_authors_sum_over_twelve():
    params, batch = (
        relu_network.start(jax.random.key(3), width=5),
        relu_network.points(),
    )

    def half_sum(params):
        residual = relu_network.predict(params, batch[0]) - batch[1]
        return jnp.sum(residual**2) / 2

    expected = jax.grad(half_sum)(params)
    received = descent.full_batch(relu_network.objective(), batch, rho=0.0)(params, 0)
    for key in params:
        np.testing.assert_allclose(12 * received[key], expected[key], rtol=1e-12)


def test_sam_flattens_the_function_and_gradient_descent_does_not():
    batch = relu_network.points()

    def variation(key, rho):
        gradient = descent.full_batch(relu_network.objective(), batch, rho=rho)
        return descent.descend(
            gradient,
            relu_network.start(key),
            step_size=6e-4,
            times=jnp.array([0, 10_000]),
            observe=lambda params: relu_network.slope_variation(params, -1.4, 1.5),
        )

    keys = jax.random.split(jax.random.key(0), 3)
    run = jax.jit(jax.vmap(variation, (0, None)))
    (before, erm), (_, sam) = (np.asarray(run(keys, rho)).T for rho in (0.0, 0.3))
    assert np.all(erm > 0.9 * before)
    assert np.all(sam < 0.75 * erm)
