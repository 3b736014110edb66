"""Losses against the peers' numbers, closed forms, limits, and extreme logits."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import losses

REFERENCE = Path(__file__).parent / "reference" / "losses.npz"
CLASSES = 5

MULTICLASS = {
    "cross_entropy": losses.cross_entropy,
    "smoothed": partial(losses.cross_entropy, smoothing=0.1),
    "gce": losses.generalized_cross_entropy,
    "gce_mae": partial(losses.generalized_cross_entropy, q=1.0),
    "gce_ce": partial(losses.generalized_cross_entropy, q=0.0),
}


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, CLASSES)), rng.integers(0, CLASSES, 7)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def mean_gradient(loss, logits, labels):
    return jax.grad(lambda z: loss(z, labels).mean())(jnp.asarray(logits))


# The peers' numbers (code of the paper's authors)


def test_generalized_cross_entropy_is_the_peers(reference):
    z, y, q = reference["logits"], reference["labels"], float(reference["gce/q"])
    loss = partial(losses.generalized_cross_entropy, q=q)
    np.testing.assert_allclose(loss(z, y), reference["gce/loss"], rtol=1e-10)
    received = mean_gradient(loss, z, y)
    np.testing.assert_allclose(received, reference["gce/grad_of_mean"], atol=1e-10)


def test_cross_entropy_with_offset_is_the_peers(reference):
    z, y = reference["binary_logits"], reference["binary_labels"]
    loss = partial(
        losses.cross_entropy_with_offset, offset=float(reference["ce_offset/c"])
    )
    np.testing.assert_allclose(loss(z, y), reference["ce_offset/loss"], rtol=1e-10)
    received = mean_gradient(loss, z, y)
    expected = reference["ce_offset/grad_of_mean"]
    np.testing.assert_allclose(received, expected, atol=1e-10)


def test_smallest_k_mean_is_the_peers(reference):
    z, y = jnp.asarray(reference["logits"]), jnp.asarray(reference["labels"])
    fraction = float(reference["smallest_k/frac_rm"])

    def mean(z):
        return losses.smallest_k_mean(losses.cross_entropy(z, y), fraction)

    value, gradient = jax.value_and_grad(mean)(z)
    np.testing.assert_allclose(value, reference["smallest_k/mean"], rtol=1e-10)
    expected = reference["smallest_k/grad_of_mean"]
    np.testing.assert_allclose(gradient, expected, atol=1e-10)


# Closed forms


def test_cross_entropy_is_minus_log_softmax(example):
    z, y = example
    p = softmax(z)
    expected = -np.log(p[np.arange(len(y)), y])
    np.testing.assert_allclose(losses.cross_entropy(z, y), expected, rtol=1e-12)
    gradient = mean_gradient(losses.cross_entropy, z, y)
    onehot = np.eye(CLASSES)[y]
    np.testing.assert_allclose(gradient, (p - onehot) / len(y), atol=1e-15)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_is_cross_entropy_with_mixed_targets(example, smoothing):
    z, y = example
    target = (1 - smoothing) * np.eye(CLASSES)[y] + smoothing / CLASSES
    expected = -(target * np.log(softmax(z))).sum(-1)
    received = losses.cross_entropy(z, y, smoothing=smoothing)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_gce_gradient_is_that_of_ce_times_a_power_of_the_probability(example, q):
    # Zhang & Sabuncu 2018, Sec. 3.2: dL_q = p_y^q dL_CE.
    z, y = example
    p = softmax(z)[np.arange(len(y)), y]
    received = mean_gradient(partial(losses.generalized_cross_entropy, q=q), z, y)
    expected = p[:, None] ** q * mean_gradient(losses.cross_entropy, z, y)
    np.testing.assert_allclose(received, expected, rtol=1e-10)


def test_gce_at_one_is_the_mean_absolute_error(example):
    z, y = example
    p = softmax(z)
    half_l1 = np.abs(p - np.eye(CLASSES)[y]).sum(-1) / 2
    received = losses.generalized_cross_entropy(z, y, q=1.0)
    np.testing.assert_allclose(received, half_l1, rtol=1e-12)


def test_gce_tends_to_cross_entropy_linearly_in_q(example):
    # (1 - p^q) / q = ce - q ce^2 / 2 + O(q^2), without cancellation at any q.
    z, y = example
    ce = np.asarray(losses.cross_entropy(z, y))
    for q in [1e-3, 1e-6, 1e-12]:
        received = losses.generalized_cross_entropy(z, y, q=q)
        np.testing.assert_allclose(received, ce - q * ce**2 / 2, atol=10 * q**2 + 1e-14)


def test_gce_at_zero_is_cross_entropy(example):
    z, y = example
    received = losses.generalized_cross_entropy(z, y, q=0)
    np.testing.assert_array_equal(received, losses.cross_entropy(z, y))


def test_binary_cross_entropy_is_the_two_class_one_with_a_zero_logit(example):
    z, y = example[0][:, 0], example[1] % 2
    pair = np.stack([np.zeros_like(z), z], axis=1)
    received = losses.binary_cross_entropy(z, y)
    np.testing.assert_allclose(received, losses.cross_entropy(pair, y), rtol=1e-12)
    np.testing.assert_allclose(
        losses.cross_entropy_with_offset(pair, y), received, rtol=1e-12
    )


def test_smallest_k_mean_is_the_mean_of_the_sorted_head():
    values = jnp.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert losses.smallest_k_mean(values, 0.0) == 3.0
    assert losses.smallest_k_mean(values, 0.39) == 2.5  # floor(1.95) = 1 removed
    assert losses.smallest_k_mean(values, 0.8) == 1.0
    gradient = jax.grad(partial(losses.smallest_k_mean, fraction_removed=0.4))(values)
    np.testing.assert_allclose(gradient, np.array([0, 1, 0, 1, 1]) / 3, rtol=1e-12)


# Extreme logits


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
@pytest.mark.parametrize("name", MULTICLASS)
def test_losses_and_gradients_are_finite_for_huge_logits(name, dtype):
    z = jnp.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4]], dtype)
    for label in range(3):
        y = jnp.full(3, label)
        loss = MULTICLASS[name](z, y)
        assert loss.dtype == jnp.promote_types(dtype, jnp.float32)
        assert jnp.isfinite(loss).all()
        gradient = mean_gradient(MULTICLASS[name], z, y)
        assert gradient.dtype == dtype
        assert jnp.isfinite(gradient).all()


def test_huge_logits_give_the_exact_margin():
    z = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    y = jnp.array([1, 1])
    np.testing.assert_array_equal(losses.cross_entropy(z, y), [2e4, 0])
    np.testing.assert_array_equal(
        mean_gradient(losses.cross_entropy, z, y)[0], [0.5, -0.5]
    )
    np.testing.assert_allclose(
        losses.cross_entropy_with_offset(z, y, 2.0), [20002, 0], rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_binary_losses_and_gradients_are_finite_for_huge_logits(dtype):
    z = jnp.array([1e4, -1e4, 1e4, -1e4, 0.0], dtype)
    y = jnp.array([1, 0, 0, 1, 1])
    wide = jnp.promote_types(dtype, jnp.float32)
    big = float(z[0])  # 1e4 has no exact bfloat16
    np.testing.assert_allclose(
        losses.binary_cross_entropy(z, y),
        np.array([0, 0, big, big, np.log(2)]),
        rtol=1e-6,
    )
    assert losses.binary_cross_entropy(z, y).dtype == wide
    gradient = mean_gradient(losses.binary_cross_entropy, z, y)
    np.testing.assert_allclose(
        gradient.astype(wide), np.array([0, 0, 1, -1, -0.5]) / 5, rtol=1e-2
    )


# Bad input


@pytest.mark.parametrize("label", [-1, CLASSES, 10**6])
def test_a_label_out_of_range_gives_nan_and_spares_the_others(label):
    y = jnp.array([0, label])
    for loss in MULTICLASS.values():
        received = np.isnan(loss(jnp.zeros((2, CLASSES)), y))
        np.testing.assert_array_equal(received, [False, True])


def test_a_binary_label_of_minus_one_gives_nan():
    received = losses.binary_cross_entropy(jnp.zeros(3), jnp.array([0, 1, -1]))
    np.testing.assert_array_equal(np.isnan(received), [False, False, True])


@pytest.mark.parametrize(
    "loss",
    [
        losses.cross_entropy,
        losses.generalized_cross_entropy,
        losses.cross_entropy_with_offset,
    ],
)
def test_one_hot_labels_are_refused_with_the_mend(loss):
    with pytest.raises(ValueError, match=r"one-hot.*integer labels.*argmax"):
        loss(jnp.zeros((4, 2)), jnp.zeros((4, 2)))


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (jnp.zeros(3, int), r"labels of shape \(3,\)"),
        (jnp.zeros((4, 1), int), r"labels of shape \(4, 1\)"),
        (jnp.zeros(4), "dtype float64"),
        (jnp.zeros(4, bool), "dtype bool"),
    ],
)
def test_labels_of_other_shapes_and_dtypes_are_refused(labels, received):
    with pytest.raises(ValueError, match=received + r".*integers of shape \(4,\)"):
        losses.cross_entropy(jnp.zeros((4, 2)), labels)
    with pytest.raises(ValueError, match=received):
        losses.binary_cross_entropy(jnp.zeros(4), labels)


def test_logits_of_other_shapes_and_dtypes_are_refused():
    y = jnp.zeros(4, int)
    with pytest.raises(ValueError, match=r"shape \(4,\).*use binary_cross_entropy"):
        losses.cross_entropy(jnp.zeros(4), y)
    with pytest.raises(ValueError, match=r"shape \(4, 1\).*logits\[:, 0\]"):
        losses.binary_cross_entropy(jnp.zeros((4, 1)), y)
    with pytest.raises(ValueError, match=r"\(4, 3\).*two classes"):
        losses.cross_entropy_with_offset(jnp.zeros((4, 3)), y)
    with pytest.raises(ValueError, match="dtype int64; pass floats"):
        losses.cross_entropy(jnp.zeros((4, 3), int), y)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_options_out_of_range_are_refused(value):
    z, y = jnp.zeros((2, 3)), jnp.zeros(2, int)
    with pytest.raises(ValueError, match="Received q="):
        losses.generalized_cross_entropy(z, y, q=value)
    with pytest.raises(ValueError, match="Received smoothing="):
        losses.cross_entropy(z, y, smoothing=value)
    with pytest.raises(ValueError, match="Received fraction_removed="):
        losses.smallest_k_mean(jnp.zeros(4), value)


def test_removing_every_loss_is_refused():
    with pytest.raises(ValueError, match="removes all 4 losses; give less than 1"):
        losses.smallest_k_mean(jnp.zeros(4), 1.0)


# The factory


def test_create_sets_the_options(example):
    z, y = example
    received = losses.create("generalized_cross_entropy", q=0.4)(z, y)
    expected = losses.generalized_cross_entropy(z, y, q=0.4)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_name_makes_a_loss_of_its_defaults(name):
    binary = name == "binary_cross_entropy"
    received = losses.create(name)(
        jnp.zeros(3) if binary else jnp.zeros((3, 2)), jnp.array([0, 1, 1])
    )
    assert received.shape == (3,)


def test_create_tells_what_is_known():
    with pytest.raises(ValueError, match=r"Unknown loss 'mse'; known: cross_entropy"):
        losses.create("mse")
    with pytest.raises(ValueError, match=r"no option 'p'; its options: q"):
        losses.create("generalized_cross_entropy", p=0.7)
    with pytest.raises(ValueError, match="its options: none"):
        losses.create("binary_cross_entropy", q=0.7)
    with pytest.raises(ValueError, match=r"Received q=-1; give .* \[0, 1\]"):
        losses.create("generalized_cross_entropy", q=-1)
