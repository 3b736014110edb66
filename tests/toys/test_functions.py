"""The stated constants are right and cannot be improved; the gradients are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.toys import functions

FUNCTIONS = {
    "quadratic": (functions.quadratic([0.3, 2.0]), 2),
    "sine_squared": (functions.sine_squared(), 1),
    "pseudo_huber": (functions.pseudo_huber(), 1),
    "cosine": (functions.cosine(), 1),
    "one_sided": (functions.one_sided(7.0, 0.5, 0.9, 10.0), 2),
}


def points(d, reach=12.0, number=4001):
    if d == 1:
        return jnp.linspace(-reach, reach, number)[:, None]
    return reach * jax.random.normal(jax.random.key(0), (number, d))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_minimum_is_zero_at_zero(name):
    function, d = FUNCTIONS[name]
    w = points(d)
    assert function.value(jnp.zeros(d)) == 0
    assert jnp.all(jax.vmap(function.value)(w) >= 0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_lies_between_the_constants(name):
    function, d = FUNCTIONS[name]
    hessians = jax.vmap(jax.hessian(function.value))(points(d))
    eigenvalues = np.linalg.eigvalsh(hessians)
    assert np.abs(eigenvalues).max() <= function.beta * (1 + 1e-12)
    if name != "one_sided":  # a bound there: u and v are not parallel
        assert np.abs(eigenvalues).max() > 0.999 * function.beta
    if function.strong is None:
        assert eigenvalues.min() < 0
    else:
        assert eigenvalues.min() >= function.strong - 1e-12


@pytest.mark.parametrize("name", FUNCTIONS)
def test_polyak_lojasiewicz_constant_is_the_largest(name):
    function, d = FUNCTIONS[name]
    w = points(d, reach=4.0)
    loss, slope = map(np.asarray, jax.vmap(jax.value_and_grad(function.value))(w))
    away = loss > 1e-9
    ratio = np.min(np.sum(slope[away] ** 2, axis=1) / (2 * loss[away]))
    assert ratio >= function.mu
    if name in ("quadratic", "sine_squared"):
        assert ratio < 1.01 * function.mu


@pytest.mark.parametrize("name", ["pseudo_huber", "cosine"])
def test_flat_functions_are_exact_near_their_minimum(name):
    function, _ = FUNCTIONS[name]
    w = jnp.array([1e-9])  # where sqrt(1 + w^2) - 1 and 1 - cos w round to 0
    np.testing.assert_allclose(function.value(w), 0.5e-18, rtol=1e-12)
    far = {"pseudo_huber": 10**0.5 - 1, "cosine": 1 - np.cos(3.0)}[name]
    np.testing.assert_allclose(function.value(jnp.array([3.0])), far, rtol=1e-12)


def test_noisy_examples_have_the_mean_and_the_variance_they_say():
    function = functions.sine_squared()
    shifts = jnp.array([[1.0, -2.0], [-1.0, 2.0]])
    objective, w = functions.noisy(function), jnp.array([0.4, 2.0])
    np.testing.assert_allclose(
        objective.value(w, shifts), function.value(w), rtol=1e-12
    )
    gradients = jax.vmap(jax.grad(lambda w, c: objective.value(w, c[None])), (None, 0))
    spread = gradients(w, shifts) - jax.grad(function.value)(w)
    np.testing.assert_allclose(spread, shifts, rtol=1e-12)
