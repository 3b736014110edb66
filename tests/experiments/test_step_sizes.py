"""Decreasing steps: where SAM's fixed point lies, which sets the rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import step_sizes
from sam_jax.core import ascent
from sam_jax.core.gradient import sharpness_aware_gradient


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.3])
def test_sam_per_example_stands_still_at_order_rho_off_the_minimum(rho):
    """sum a_i (w - b_i) (1 + rho a_i) = 0 at w = -6 rho / (4 + 10 rho)."""
    objective, rows = step_sizes.parabolas(), jnp.array(step_sizes.PARABOLAS)
    fixed = jnp.array(-6 * rho / (4 + 10 * rho))
    gradient = sharpness_aware_gradient(
        objective, fixed, rows, rho=rho, m=1, rule=ascent.unnormalized
    ).gradient
    np.testing.assert_allclose(gradient, 0, atol=1e-14)
    loss = float(objective.value(fixed, rows))
    np.testing.assert_allclose(loss - 3, fixed**2, atol=1e-14)


@pytest.mark.parametrize(
    ("rows", "slopes"),
    [(step_sizes.PARABOLAS, [-3, 3]), (step_sizes.UNEQUAL, [-9, 3, 6])],
)
def test_the_constants_are_those_of_the_parabolas(rows, slopes):
    objective = step_sizes.parabolas()
    mean = jax.hessian(lambda w: objective.value(w, jnp.array(rows)))(0.0)
    assert (float(mean), float(rows[:, 0].max())) == (step_sizes.MU, step_sizes.BETA)
    found = [
        float(
            jax.grad(lambda w, row=row: objective.value(w, jnp.array(row[None])))(0.0)
        )
        for row in rows
    ]
    np.testing.assert_allclose(found, slopes)


def test_gradients_of_unequal_length_tell_the_forms_apart():
    rows, there = jnp.array(step_sizes.UNEQUAL), []
    assert np.abs(step_sizes.UNEQUAL.prod(1)).mean() == step_sizes.LENGTH
    for rule, length in step_sizes.FORMS.values():
        gradient = sharpness_aware_gradient(
            step_sizes.parabolas(), 0.0, rows, rho=0.1 * length, m=1, rule=rule
        ).gradient
        there.append(float(gradient))
    assert abs(there[0] - there[1]) > 0.1
    ratio = 2 * np.log2(there[1] / there[0])
    np.testing.assert_allclose(ratio, step_sizes.fixed_points(), rtol=1e-6)


def test_radii_start_equal_and_the_smaller_exponent_falls_slower():
    t = jnp.array([0, 100_000])
    found = np.array([step_sizes.rho(t, p) for p in step_sizes.EXPONENTS])
    np.testing.assert_allclose(found[:, 0], 1 / step_sizes.BETA, rtol=1e-12)
    assert (np.diff(found[:, 1]) > 0).all()
    steps = 16 * step_sizes.BETA * step_sizes.gamma(t[1])
    np.testing.assert_allclose(found[1, 1], steps**0.5 / step_sizes.BETA, rtol=1e-12)
