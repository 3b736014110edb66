"""phi_alpha and its minimiser: limits, an independent optimiser, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from sam_jax import flows
from sam_jax.toys import sparse_regression

DATA = sparse_regression.sample(0)


def test_the_potential_is_eq_12_and_its_gradient_its_derivative():
    beta, alpha = jnp.asarray([-0.3, 0.0, 2.0]), jnp.asarray([0.1, 1.0, 3.0])
    z = np.asarray(beta / alpha**2)
    q = 2 - np.sqrt(4 + z**2) + z * np.arcsinh(z / 2)
    expected = np.sum(np.asarray(alpha) ** 2 * q)
    np.testing.assert_allclose(flows.potential(beta, alpha), expected, rtol=1e-13)
    np.testing.assert_allclose(
        flows.potential_gradient(beta, alpha),
        jax.grad(flows.potential)(beta, alpha),
        rtol=1e-13,
    )


def test_large_alpha_gives_the_least_euclidean_norm():
    received = flows.minimize_potential(DATA.x, DATA.y, 100.0).beta
    expected = np.linalg.pinv(DATA.x) @ DATA.y
    np.testing.assert_allclose(received, expected, atol=1e-9)


def test_small_alpha_gives_the_least_l1_norm():
    # Dense targets: the l1 minimiser is no planted vector.
    y = np.random.default_rng(1).standard_normal(20)
    split = np.concatenate([DATA.x, -DATA.x], 1)
    expected = scipy.optimize.linprog(np.ones(60), A_eq=split, b_eq=y).fun
    received = [
        np.abs(flows.minimize_potential(DATA.x, y, alpha).beta).sum()
        for alpha in (1e-2, 1e-8, 1e-32)
    ]
    np.testing.assert_allclose(received[-1], expected, rtol=1e-8)
    assert received[0] > received[1] > expected


def test_against_a_general_optimiser():
    x, y = DATA.x[:3, :6], DATA.y[:3]
    alpha = np.linspace(0.2, 0.7, 6)
    start = np.linalg.pinv(x) @ y
    kernel = np.linalg.svd(x)[2][3:]
    value = jax.jit(lambda t: flows.potential(start + t @ kernel, jnp.asarray(alpha)))
    found = scipy.optimize.minimize(
        value, np.zeros(3), jac=jax.jit(jax.grad(value)), tol=1e-14
    )
    received = flows.minimize_potential(x, y, alpha)
    np.testing.assert_allclose(received.beta, start + found.x @ kernel, atol=1e-8)
    np.testing.assert_allclose(
        flows.potential_gradient(received.beta, alpha), x.T @ received.nu, atol=1e-12
    )


@pytest.mark.parametrize("alpha", [1e-5, 1e-3, 0.01, 1.0, 100.0])
def test_newton_reaches_rounding_in_few_steps(alpha):
    found = flows.minimize_potential(DATA.x, DATA.y, alpha)
    assert found.infeasibility < 1e-14
    assert found.iterations <= 20
    if alpha == 0.01:
        assert found.iterations <= 12


def test_batches_and_vectors_of_alpha():
    data = sparse_regression.sample(range(2))
    alphas = np.asarray([0.01, 1.0])[:, None, None]  # [alphas, seeds, features]
    found = flows.minimize_potential(
        data.x, data.y, np.broadcast_to(alphas, (2, 2, 30))
    )
    assert found.beta.shape == (2, 2, 30)
    single = flows.minimize_potential(data.x[1], data.y[1], 1.0).beta
    np.testing.assert_allclose(found.beta[1, 1], single, rtol=1e-10, atol=1e-13)


def test_repeated_examples_and_zero_targets():
    twice = np.concatenate([DATA.x, DATA.x]), np.concatenate([DATA.y, DATA.y])
    once = flows.minimize_potential(DATA.x, DATA.y, 0.1).beta
    received = flows.minimize_potential(*twice, 0.1).beta
    np.testing.assert_allclose(received, once, atol=1e-12)
    zero = flows.minimize_potential(DATA.x, 0 * DATA.y, 0.1)
    np.testing.assert_array_equal(zero.beta, 0)


@pytest.mark.parametrize(
    ("alpha", "match"),
    [(0.0, "alpha=0.0"), (-1.0, "> 0"), (np.ones(7), "one a feature"), (np.nan, "nan")],
)
def test_unsuitable_alphas_are_refused(alpha, match):
    with pytest.raises(ValueError, match=match):
        flows.minimize_potential(DATA.x, DATA.y, alpha)


def test_a_minimiser_out_of_reach_is_an_error():
    with pytest.raises(ValueError, match="larger alpha"):
        flows.minimize_potential(DATA.x, DATA.y, 1e-100)
