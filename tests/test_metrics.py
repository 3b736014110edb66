"""Error counts: by hand, over batches with padding, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.metrics import Metrics, errors


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    return rng.exponential(size=10), rng.integers(0, 2, 10)


def test_errors_by_hand():
    logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(errors(logits, np.array([0, 1, 0])), [0, 1, 0])


def test_binary_errors_by_hand():
    logits = jnp.array([-1.0, 2.0, 0.0, 3.0])
    np.testing.assert_array_equal(errors(logits, np.array([0, 1, 1, 0])), [0, 0, 1, 1])


def test_a_nan_logit_and_a_label_out_of_range_are_errors():
    # argmax of NaNs is their position, which would be right by luck.
    logits = jnp.array([[jnp.nan, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(errors(logits, jnp.array([0, -1])), [1, 1])
    np.testing.assert_array_equal(errors(jnp.array([jnp.nan]), jnp.array([0])), [1])


def test_errors_refuses_shapes_that_do_not_match():
    with pytest.raises(ValueError, match=r"logits of shape \(3, 2\).*\(3, 2\)"):
        errors(jnp.zeros((3, 2)), jnp.zeros((3, 2), int))


def test_the_mean_over_padded_batches_is_the_mean_over_all(sample):
    losses, wrong = sample
    padded_losses = np.append(losses, [np.nan, np.inf])
    padded_wrong = np.append(wrong, [1, 1])
    mask = np.arange(12) < 10
    parts = [
        Metrics.of_batch(padded_losses[batch], padded_wrong[batch], mask[batch])
        for batch in (slice(i, i + 4) for i in range(0, 12, 4))
    ]
    total = jax.tree.map(lambda *sums: sum(sums), *parts)
    assert total.examples == 10
    np.testing.assert_allclose(total.loss_sum / 10, losses.mean(), rtol=1e-12)
    np.testing.assert_allclose(total.error_sum / 10, wrong.mean(), rtol=1e-12)


def test_weights_make_weighted_means(sample):
    losses, wrong = sample
    weights = np.arange(10.0)
    total = Metrics.of_batch(losses, wrong, weights)
    received = total.loss_sum / total.examples, total.error_sum / total.examples
    expected = [np.average(values, weights=weights) for values in (losses, wrong)]
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_bfloat16_losses_are_summed_in_float32():
    ones = jnp.ones(1000, jnp.bfloat16)  # in bfloat16, 256 + 1 = 256
    total = Metrics.of_batch(ones, jnp.ones(1000, int))
    assert total.loss_sum.dtype == jnp.float32
    assert (total.loss_sum, total.error_sum, total.examples) == (1000, 1000, 1000)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\), \(3,\), \(2,\); all must be"):
        Metrics.of_batch(np.ones(3), np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match=r"\(3,\), \(\), \(3,\); all must be"):
        Metrics.of_batch(np.ones(3), 1.0)
