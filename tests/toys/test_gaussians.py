"""The exact error against counting, and the labels that are flipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr

from sam_jax.toys import gaussians, linear


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_exact_error_is_the_fraction_of_wrong_points(epsilon):
    problem = gaussians.sample(jax.random.key(0), n=200_000, d=3, sigma=0.8)
    w = jnp.array([0.9, -0.7, 0.8]) + problem.mu
    # The worst perturbation of length epsilon takes epsilon |w| off a margin.
    margins = linear.margins(w, problem.examples) - epsilon * jnp.linalg.norm(w)
    counted = float(jnp.mean(margins < 0))
    exact = float(gaussians.exact_error(w, problem.mu, sigma=0.8, epsilon=epsilon))
    assert 0.05 < exact < 0.95
    assert abs(counted - exact) < 4 * (exact * (1 - exact) / 200_000) ** 0.5


def test_the_true_mean_has_the_least_robust_error():
    # Phi(-1) = 0.1587 at epsilon = 0.9, sigma = 0.1 (Fig. 8).
    mu = gaussians.sample(jax.random.key(1)).mu
    error = gaussians.exact_error(3 * mu, mu, epsilon=0.9)
    np.testing.assert_allclose(error, 0.15865525393145707, rtol=1e-12)
    assert gaussians.exact_error(0 * mu, mu) == 0.5


@pytest.mark.parametrize("tilt", [0.2, 0.8])
def test_the_share_of_attacks_that_change_the_label_is_its_closed_form(tilt):
    """Phi((epsilon cos(w, mu) - 1) / sigma); none more if they are orthogonal to mu."""
    problem = gaussians.sample(jax.random.key(5), n=200_000, d=3, sigma=0.5)
    w = problem.mu + tilt * jnp.array([1.0, -1.0, 0.5])
    cosine = float(w @ problem.mu / jnp.linalg.norm(w))
    for preserved, toward in ((None, cosine), (problem.mu, 0.0)):
        attacks = linear.attacked(w, problem.examples, 0.9, preserved=preserved)
        delta = np.asarray(attacks.inputs - problem.examples.inputs)
        np.testing.assert_allclose(np.linalg.norm(delta, axis=1), 0.9, rtol=1e-12)
        changed = float(jnp.mean(linear.margins(problem.mu, attacks) < 0))
        exact = float(ndtr((0.9 * toward - 1) / 0.5))
        assert abs(changed - exact) < 4 * (exact * (1 - exact) / 200_000) ** 0.5


def test_sample_has_the_means_and_the_flips_it_says():
    problem = gaussians.sample(jax.random.key(2), n=4000, d=5, sigma=0.1, flips=900)
    inputs, labels = problem.examples
    assert int(problem.flipped.sum()) == 900
    np.testing.assert_allclose(jnp.linalg.norm(problem.mu), 1, rtol=1e-12)
    assert set(np.unique(labels)) == {-1.0, 1.0}
    true = jnp.where(problem.flipped, -labels, labels)
    centred = true[:, None] * inputs - problem.mu
    np.testing.assert_allclose(centred.mean(0), 0, atol=4 * 0.1 / 4000**0.5)
    np.testing.assert_allclose(centred.std(0), 0.1, rtol=0.05)


def test_start_lies_on_the_sphere():
    w = gaussians.start(jax.random.key(0), d=7, radius=0.5)
    assert w.shape == (7,)
    np.testing.assert_allclose(jnp.linalg.norm(w), 0.5, rtol=1e-12)


@pytest.mark.parametrize("flips", [-1, 51])
def test_impossible_numbers_of_flips_are_refused(flips):
    with pytest.raises(ValueError, match=f"flips={flips}"):
        gaussians.sample(jax.random.key(0), flips=flips)


def test_float32_mode_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs float64"):
        gaussians.sample(jax.random.key(0))
