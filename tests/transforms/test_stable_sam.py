"""Stable SAM against NumPy on a quadratic, and at gradients of zero."""

import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from tests.transforms.test_scaled import FLAT, A, G, replaced


@pytest.mark.parametrize("rho", [0.1, 3.0])
def test_the_direction_is_sams_and_the_length_the_plain_ones(rho):
    perturbed = A @ (FLAT + rho * G / np.linalg.norm(G))
    expected = perturbed * np.linalg.norm(G) / np.linalg.norm(perturbed)
    received = replaced(sam_jax.stable_sam(rho))
    np.testing.assert_allclose(received, expected, rtol=1e-13)
    assert abs(np.linalg.norm(perturbed) / np.linalg.norm(G) - 1) > 0.05


def test_a_gradient_of_zero_at_the_ascent_point_gives_no_step():
    # The maximum of -w^2 / 2 lies at the distance rho, uphill.
    w, tx = jnp.array([2.0]), sam_jax.stable_sam(2.0)
    batch = jnp.zeros(1)
    updates, _ = tx.update(-w, tx.init(w), w, grad_fn=lambda v, _: -v, batch=batch)
    np.testing.assert_array_equal(updates, [0.0])
