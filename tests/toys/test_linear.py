"""SumMax's closed form by three routes, adversaries by search, areas by counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import ascent
from sam_jax.core.gradient import loss_gradient, sharpness_aware_gradient
from sam_jax.toys import gaussians, linear

LOSSES = {
    "cross_entropy": linear.cross_entropy,
    "generalized_cross_entropy": linear.generalized_cross_entropy,
}
SLOPES = {
    "cross_entropy": lambda z: -1 / (1 + np.exp(z)),
    "generalized_cross_entropy": lambda z: (
        -((1 + np.exp(-z)) ** -0.7) * np.exp(-z) / (1 + np.exp(-z))
    ),
}


def problem():
    sample = gaussians.sample(jax.random.key(3), n=20, d=30, flips=8)
    return sample.examples, gaussians.start(jax.random.key(4), d=30)


@pytest.mark.parametrize("rho", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("name", LOSSES)
def test_sum_max_is_equation_6_by_core_closed_form_and_numpy(name, rho):
    examples, w = problem()
    loss = LOSSES[name]
    core = sharpness_aware_gradient(
        linear.objective(loss), w, examples, rho=rho, m=1
    ).gradient
    closed = loss_gradient(linear.sum_max_objective(rho, loss), w, examples).gradient
    x, y = map(np.asarray, examples)
    margins = y * (x @ w) - rho * np.linalg.norm(x, axis=1)
    expected = (SLOPES[name](margins) * y) @ x / len(y)
    np.testing.assert_allclose(core, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(closed, expected, rtol=1e-12, atol=1e-15)


def test_the_direction_of_a_linear_model_is_that_of_erm():
    # Sec. 4.2: SAM changes only the loss derivative of a linear model.
    examples, w = problem()
    objective = linear.objective()
    gradients = {
        swap: sharpness_aware_gradient(
            objective, w, examples, rho=0.7, m=1, swap=swap
        ).gradient
        for swap in (None, "direction", "derivative")
    }
    erm = loss_gradient(objective, w, examples).gradient
    np.testing.assert_allclose(gradients["direction"], erm, rtol=1e-12)
    np.testing.assert_allclose(gradients["derivative"], gradients[None], rtol=1e-12)
    assert np.abs(gradients[None] - erm).max() > 0.01


def test_figure_6_values():
    z = jnp.linspace(-8, 8, 160_001)
    change = linear.derivative_change(linear.cross_entropy, z, 2.0)
    np.testing.assert_allclose(z[change.argmin()], 1.0, atol=1e-4)
    np.testing.assert_allclose(change.min(), -np.tanh(0.5), rtol=1e-9)
    gce = linear.derivative_change(linear.generalized_cross_entropy, z, 2.0)
    found = [z[gce.argmin()], gce.min(), z[gce.argmax()], gce.max()]
    np.testing.assert_allclose(found, [2.248, -0.2037, -0.992, 0.1788], atol=6e-4)


@pytest.mark.parametrize("preserve", [False, True])
def test_no_perturbation_in_the_ball_beats_the_adversary(preserve):
    examples, w = problem()
    epsilon = 0.4
    mu = jnp.zeros(30).at[2].set(1.0)
    objective = linear.adversarial_objective(
        epsilon, preserved=mu if preserve else None
    )
    attacked, _ = objective.forward(w, examples)
    deltas = np.random.default_rng(0).standard_normal((2000, 30))
    if preserve:
        deltas[:, 2] = 0
    deltas *= epsilon / np.linalg.norm(deltas, axis=1, keepdims=True)
    tried = np.asarray(examples.labels)[:, None] * (
        np.asarray(examples.inputs @ w)[:, None] + deltas @ np.asarray(w)
    )
    assert np.all(tried >= np.asarray(attacked)[:, None])
    part = np.asarray(w) * (1 - np.asarray(mu) * preserve)
    expected = linear.margins(w, examples) - epsilon * np.linalg.norm(part)
    np.testing.assert_allclose(attacked, expected, rtol=1e-12)


@pytest.mark.parametrize("preserve", [False, True])
def test_adversarial_gradient_is_that_of_the_worst_case_loss(preserve):
    examples, w = problem()
    mu = jnp.zeros(30).at[2].set(1.0) if preserve else None
    objective = linear.adversarial_objective(0.4, preserved=mu)
    received = loss_gradient(objective, w, examples).gradient

    def worst(w):
        part = w if mu is None else w.at[2].set(0.0)
        lowered = linear.margins(w, examples) - 0.4 * jnp.linalg.norm(part)
        return jnp.mean(jnp.logaddexp(0.0, -lowered))

    np.testing.assert_allclose(received, jax.grad(worst)(w), rtol=1e-12)


def test_adversarial_training_at_zero_is_finite():
    examples, w = problem()
    objective = linear.adversarial_objective(0.4)
    gradient = loss_gradient(objective, 0 * w, examples).gradient
    expected = loss_gradient(linear.objective(), 0 * w, examples).gradient
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_sharpness_and_adversary_combine():
    # Both offset the margin: rho |x + delta| and epsilon |w|.
    examples, w = problem()
    received = sharpness_aware_gradient(
        linear.adversarial_objective(0.4), w, examples, rho=0.3, rule=ascent.normalized
    ).gradient
    assert np.all(np.isfinite(received))


def test_area_under_the_curve_counts_pairs():
    scores = jnp.array([0.1, 0.4, 0.35, 0.8, 0.4])
    positive = jnp.array([0, 0, 1, 1, 1])
    # Pairs won: .35 > .1; .8 > both; .4 > .1 and ties .4.
    assert linear.area_under_curve(scores, positive) == pytest.approx(4.5 / 6)
    assert linear.area_under_curve(-scores, positive) == pytest.approx(1.5 / 6)
