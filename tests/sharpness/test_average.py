import jax
import numpy as np
import pytest

from sam_jax import sharpness
from tests.sharpness.problems import SQUARES, over_one, problem


def measure(**options):
    params, batch, hessian = problem()
    received = sharpness.average_case(
        SQUARES, params, batch, jax.random.key(0), errors=over_one, **options
    )
    return received, params, hessian


def test_gaussian_noise_measures_the_trace():
    received, _, hessian = measure(rho=0.3, samples=2000)
    expected = 0.5 * 0.3**2 * np.trace(hessian)
    # u^T H u has variance 2 |H|^2; pairs share u. Four standard errors.
    error = 0.5 * 0.3**2 * np.sqrt(2 * np.sum(hessian**2) / 2000)
    np.testing.assert_allclose(received.loss, expected, atol=4 * error)


def test_noise_on_the_sphere_measures_the_mean_eigenvalue():
    received, _, hessian = measure(rho=2.0, samples=2000, on_sphere=True)
    expected = 0.5 * 2.0**2 * np.trace(hessian) / 5
    np.testing.assert_allclose(received.loss, expected, rtol=0.05)


def test_adaptive_noise_is_scaled_by_the_weights():
    received, params, hessian = measure(rho=0.3, samples=2000, adaptive=True)
    scaled = np.diag(hessian) @ np.asarray(params["w"]) ** 2
    np.testing.assert_allclose(received.loss, 0.5 * 0.3**2 * scaled, rtol=0.1)


def test_pairs_cancel_the_gradient():
    # With a single pair L rises by u^T H u / 2 > 0 however steep L is.
    received, *_ = measure(rho=1e-3, samples=1)
    assert 0 < received.loss < 1e-3


def test_radius_zero_is_no_rise():
    received, *_ = measure(rho=0.0, samples=1)
    assert received.loss == received.error == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="Received samples=0"):
        measure(rho=1.0, samples=0)
