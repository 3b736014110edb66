"""The loop against NumPy: SAM, schedules, observation times, minibatches, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import ascent
from sam_jax.core.objective import Objective
from sam_jax.toys import descent

A = np.array([1.0, 0.5, 3.0])
LEAST_SQUARES = Objective(
    predict=lambda w, batch: batch[0] @ w,
    loss=lambda outputs, batch: (outputs - batch[1]) ** 2 / 2,
)


def data(n=6, d=3):
    random = np.random.default_rng(0)
    return random.standard_normal((n, d)), random.standard_normal(n)


def numpy_sam(w, x, y, gammas, rhos, normalize=True):
    iterates = [w]
    for gamma, rho in zip(gammas, rhos, strict=True):
        g = x.T @ (x @ w - y) / len(y)
        delta = rho * (g / np.linalg.norm(g) if normalize else g)
        w = w - gamma * x.T @ (x @ (w + delta) - y) / len(y)
        iterates.append(w)
    return np.array(iterates)


@pytest.mark.parametrize("normalize", [True, False])
def test_descent_with_schedules_is_numpys(normalize):
    batch = data()
    times = np.arange(9)
    gradient = descent.full_batch(
        LEAST_SQUARES,
        batch,
        rho=lambda t: 0.5 / (1 + t),
        rule=ascent.normalized if normalize else ascent.unnormalized,
    )
    received = descent.descend(
        gradient, A, step_size=lambda t: 0.1 / (1 + t) ** 0.5, times=times
    )
    gammas, rhos = 0.1 / (1 + times[:-1]) ** 0.5, 0.5 / (1 + times[:-1])
    expected = numpy_sam(A, *batch, gammas, rhos, normalize)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_observation_times_only_choose_what_is_seen():
    gradient = descent.full_batch(LEAST_SQUARES, data(), rho=0.1)
    everything = descent.descend(gradient, A, step_size=0.1, times=np.arange(13))
    times = np.array([0, 1, 5, 12])
    seen = descent.descend(
        gradient, A, step_size=0.1, times=times, observe=lambda w: (w, w @ w)
    )
    np.testing.assert_allclose(seen[0], everything[times], rtol=1e-14)
    np.testing.assert_allclose(seen[1], (everything**2).sum(1)[times], rtol=1e-14)


def test_vmap_over_seeds_and_radii_is_a_loop_over_them():
    batch = data()

    def run(w, rho):
        gradient = descent.full_batch(LEAST_SQUARES, batch, rho=rho)
        return descent.descend(gradient, w, step_size=0.1, times=jnp.array([4]))[0]

    starts, radii = np.stack([A, -A]), np.array([0.0, 0.7])
    received = jax.vmap(run)(starts, radii)
    for w, rho, last in zip(starts, radii, received, strict=True):
        expected = numpy_sam(w, *batch, [0.1] * 4, [rho] * 4)[-1]
        np.testing.assert_allclose(last, expected, rtol=1e-12)


@pytest.mark.parametrize("own", [False, True])
def test_minibatches_average_to_the_right_expectation(own):
    # One example a batch, linear gradients: E g = mean over i (and j) of
    # x_i (<x_i, w + rho x_j r_j> - y_i), with j = i unless the ascent has its own.
    x, y = data(n=3)
    rho = 0.3
    gradient = descent.minibatch(
        LEAST_SQUARES,
        (x, y),
        jax.random.key(1),
        size=1,
        rho=rho,
        rule=ascent.unnormalized,
        own_ascent_batch=own,
    )
    draws = jax.jit(jax.vmap(lambda t: gradient(jnp.asarray(A), t)))(jnp.arange(20000))
    residual = x @ A - y
    climbed = A + rho * residual[:, None] * x
    if own:
        climbed = climbed.mean(0, keepdims=True).repeat(3, 0)
    expected = np.mean([x[i] * (x[i] @ climbed[i] - y[i]) for i in range(3)], axis=0)
    error = np.abs(draws.mean(0) - expected)
    assert np.all(error < 4 * np.asarray(draws).std(0) / 20000**0.5)
    assert len(np.unique(np.asarray(draws).round(9), axis=0)) == (9 if own else 3)


def test_minibatches_of_all_iterations_are_independent_of_the_times_watched():
    gradient = descent.minibatch(
        LEAST_SQUARES, data(), jax.random.key(0), size=2, rho=0.1
    )
    every = descent.descend(gradient, A, step_size=0.05, times=np.arange(8))
    last = descent.descend(gradient, A, step_size=0.05, times=np.array([7]))
    np.testing.assert_array_equal(every[-1], last[-1])


def test_float32_mode_is_refused_with_the_way_out():
    gradient = descent.full_batch(LEAST_SQUARES, data(), rho=0.1)
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        descent.descend(gradient, A, step_size=0.1, times=np.arange(2))
