import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.sharpness import derivatives, weights


def test_weights_are_those_of_the_gradient_by_the_own_logit():
    """d log(1 + e^-z) / dz = -(1 - p_y), by differentiation."""
    logits = jnp.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 1.0]])
    labels = jnp.array([0, 0, 2])

    def loss(shift):
        moved = logits.at[jnp.arange(3), labels].add(shift)
        chosen = jnp.take_along_axis(moved, labels[:, None], 1)[:, 0]
        return jnp.sum(jax.nn.logsumexp(moved, axis=1) - chosen)

    expected = -np.asarray(jax.grad(loss)(jnp.zeros(3)))
    wrong = jnp.array([False, True, False])
    met = weights(logits, 2 * logits, labels, wrong)
    np.testing.assert_allclose(met.clean[0], expected[[0, 2]].mean(), rtol=1e-12)
    np.testing.assert_allclose(met.noisy[0], expected[1], rtol=1e-12)
    # Twice the logits: odds of the first rise, of the second fall, of the third rise.
    odds = derivatives.log_odds(logits, labels)
    twice = derivatives.log_odds(2 * logits, labels)
    np.testing.assert_allclose(met.lowered, np.mean(twice <= odds))
    assert 0 < met.lowered < 1


def test_log_odds_of_large_margins_are_exact():
    logits = jnp.array([[800.0, 0.0], [0.0, 800.0]])
    received = derivatives.log_odds(logits, jnp.array([0, 0]))
    np.testing.assert_array_equal(received, [800.0, -800.0])


def test_a_batch_without_noisy_examples_has_no_weight_of_them():
    logits = jnp.ones((2, 2))
    met = weights(logits, logits, jnp.array([0, 1]), jnp.array([False, False]))
    np.testing.assert_array_equal(met.noisy, [0.0, 0.0])
    assert met.lowered == 1
