"""SAM on a quadratic in closed form, with and without noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.toys import functions, trajectories

CURVATURES = np.array([0.5, 2.0])
START = np.array([1.0, -3.0])


def test_deterministic_is_a_power_of_the_contraction():
    gamma, rho = 0.2, 0.7
    received = trajectories.deterministic(
        functions.quadratic(CURVATURES), START, gamma=gamma, rho=rho, times=np.arange(7)
    )
    factors = 1 - gamma * CURVATURES * (1 + rho * CURVATURES)
    w = START * factors ** np.arange(7)[:, None]
    np.testing.assert_allclose(received.w, w, rtol=1e-12)
    np.testing.assert_allclose(received.loss, (CURVATURES * w**2).sum(1) / 2)
    np.testing.assert_allclose(received.gradient2, ((CURVATURES * w) ** 2).sum(1))


@pytest.mark.parametrize("own", [False, True])
def test_stochastic_has_the_second_moment_of_the_recursion(own):
    # w+ = F w - gamma (c_I + rho lambda c_J) with F the contraction above: c_I and c_J
    # are the same batch, so their sizes add up, or independent, so their squares do.
    gamma, rho, size, steps, runs = 0.2, 0.7, 2, 12, 20_000
    shifts = jnp.array([[1.0, 0.5], [-1.0, -0.5]])
    run = jax.jit(
        jax.vmap(
            lambda key: trajectories.stochastic(
                functions.quadratic(CURVATURES),
                START,
                shifts,
                key,
                gamma=gamma,
                rho=rho,
                times=jnp.array([steps]),
                size=size,
                own_ascent_batch=own,
            ).w[-1]
        )
    )
    last = np.asarray(run(jax.random.split(jax.random.key(0), runs)))
    factors = 1 - gamma * CURVATURES * (1 + rho * CURVATURES)
    a = rho * CURVATURES
    kick = gamma**2 * (1 + a**2 if own else (1 + a) ** 2) * shifts[0] ** 2 / size
    second = START**2
    for _ in range(steps):
        second = factors**2 * second + kick
    spread = np.std(last**2, axis=0) / runs**0.5
    assert np.all(np.abs(np.mean(last**2, axis=0) - second) < 4 * spread)
    np.testing.assert_allclose(last.mean(0), START * factors**steps, atol=0.02)


@pytest.mark.parametrize("own", [False, True])
def test_the_expected_step_on_a_quadratic(own):
    gamma, rho = 0.2, 0.7
    shifts = np.array([[1.0, 0.5], [-1.0, 1.5], [0.0, -2.0]])
    received = trajectories.expected_step(
        functions.quadratic(CURVATURES),
        START,
        shifts,
        gamma=gamma,
        rho=rho,
        own_ascent_batch=own,
    )
    slope, a = CURVATURES * START, rho * CURVATURES
    factors = 1 - gamma * CURVATURES * (1 + a)
    kick = gamma**2 * (1 + a**2 if own else (1 + a) ** 2) * (shifts**2).mean(0)
    after = (CURVATURES * ((factors * START) ** 2 + kick)).sum() / 2
    expected = (CURVATURES * START**2).sum() / 2, (slope**2).sum()
    np.testing.assert_allclose(received[:2], expected, rtol=1e-12)
    np.testing.assert_allclose(received.aligned, (slope**2 * (1 + a)).sum())
    np.testing.assert_allclose(received.after, after, rtol=1e-12)
