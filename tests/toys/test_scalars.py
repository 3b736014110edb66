"""Facts I-III of App. B.3 on the core's own iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.toys import descent, scalars


def iterate(function, w, gamma, rho, steps):
    gradient = descent.full_batch(scalars.objective(function), scalars.NO_DATA, rho=rho)
    times = np.arange(steps + 1)
    return descent.descend(gradient, jnp.array(w), step_size=gamma, times=times)


@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.05), (1.0, 1.0), (1.5, 0.2)])
def test_fact_1_ends_in_the_cycle(gamma, rho):
    radius = gamma * rho / (2 - gamma)
    assert scalars.cycle_radius(gamma, rho) == pytest.approx(radius)
    w = iterate(scalars.fact_1, 0.3, gamma, rho, 400)
    np.testing.assert_allclose(np.abs(w[-10:]), radius, rtol=1e-9)
    np.testing.assert_allclose(w[-9:], -w[-10:-1], rtol=1e-9)


def test_fact_1_closed_form_step():
    # w+ = (1 - gamma) w - gamma rho sign(w), as printed.
    w = iterate(scalars.fact_1, -0.7, 0.3, 0.2, 1)
    np.testing.assert_allclose(w[1], 0.7 * -0.7 + 0.3 * 0.2, rtol=1e-14)


def test_fact_2_as_printed_jumps_between_minus_1_and_31():
    w = iterate(scalars.fact_2, -1.0, 1.0, 1.0, 9)
    np.testing.assert_array_equal(w, [-1, 31] * 5)


def test_fact_2_sharpness_of_the_printed_points():
    received = scalars.sharpness(scalars.fact_2, jnp.array([0.0, 0.0149]), 1.0)
    np.testing.assert_allclose(received, [0.5, 1.0149**2 / 2], rtol=1e-12)
    grid = jnp.linspace(0.0149 - 1, 0.0149 + 1, 100_001)
    np.testing.assert_allclose(scalars.fact_2(grid).max(), received[1], rtol=1e-9)


@pytest.mark.parametrize("rho", [0.01, 1.0, 30.0])
def test_fact_3_stays_where_the_slope_is_not_zero(rho):
    w = iterate(scalars.fact_3, rho, 0.5, rho, 20)
    np.testing.assert_array_equal(w, np.full(21, rho))
    assert jax.grad(scalars.fact_3)(rho) == -rho
