import itertools

import jax
import numpy as np
import pytest

from sam_jax import data
from sam_jax.data.dataset import CHUNK, channel_statistics


def test_normalised_training_images_have_mean_0_and_deviation_1():
    digits = data.load("digits")
    step = jax.jit(data.normalize)
    received = np.asarray(step(digits.train_images, digits.mean, digits.std))
    assert received.dtype == np.float32
    assert abs(received.mean()) < 1e-5
    assert abs(received.std() - 1) < 1e-5


def test_normalisation_is_by_channel():
    images = np.array([[[[10, 100], [20, 50]]]], np.uint8)
    mean, std = np.array([10.0, 50.0]), np.array([5.0, 25.0])
    received = data.normalize(images, mean, std)
    np.testing.assert_allclose(received, [[[[0.0, 2.0], [2.0, 0.0]]]], rtol=1e-15)


def test_images_in_0_1_normalise_to_the_same():
    digits = data.load("digits")
    stored = data.normalize(digits.test_images[:5], digits.mean, digits.std)
    unit = (digits.test_images[:5] * digits.scale).astype(np.float32)
    assert unit.max() == 1
    mean, std = digits.mean * digits.scale, digits.std * digits.scale
    np.testing.assert_allclose(data.normalize(unit, mean, std), stored, atol=1e-5)


def test_statistics_are_those_of_numpy_over_several_chunks():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2 * CHUNK + 3, 2, 1, 3), np.uint8)
    images[..., 1] //= 8
    images[..., 2] = 7
    mean, std = channel_statistics(images)
    flat = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-7)
    np.testing.assert_allclose(std, [*flat.std(0)[:2], 1.0], rtol=1e-7)


def test_classes_are_renumbered_in_the_order_given():
    digits = data.load("digits")
    part = data.load("digits", classes=("7", "2"))
    assert part.class_names == ("7", "2")
    assert part.num_classes == 2
    for split in ("train", "test"):
        images, labels = (getattr(digits, f"{split}_{x}") for x in ("images", "labels"))
        kept = (labels == 7) | (labels == 2)
        np.testing.assert_array_equal(getattr(part, f"{split}_images"), images[kept])
        received = getattr(part, f"{split}_labels")
        np.testing.assert_array_equal(received, (labels[kept] == 2).astype(int))
        assert received.dtype == np.int32


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("7", "cat"), "Unknown class 'cat'; known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ((7, 2), "Unknown class 7, 2; known: 0, 1"),
        (("7",), "two or more different names"),
        (("7", "7"), "two or more different names"),
        ("72", "two or more different names"),
    ],
)
def test_bad_classes_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        data.select_classes(data.load("digits"), classes)


def test_a_smaller_image_has_the_means_of_blocks():
    images = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1) ** 2
    mean, std = channel_statistics(images)
    whole = data.Dataset(
        images, np.zeros(2, int), images[:1], np.zeros(1, int), ("a",), mean, std, 1.0
    )
    small = data.resize(whole, 2)
    for received, given in (
        (small.train_images, whole.train_images),
        (small.test_images, whole.test_images),
    ):
        expected = np.empty((len(given), 2, 2, 1))
        for i, j in itertools.product(range(2), repeat=2):
            block = given[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].astype(float)
            expected[:, i, j] = np.floor(block.mean((1, 2)) + 0.5)
        assert received.dtype == np.uint8
        np.testing.assert_array_equal(received, expected)
    np.testing.assert_allclose(small.mean, small.train_images.mean(), rtol=1e-6)
    np.testing.assert_allclose(small.std, small.train_images.std(), rtol=1e-6)


def test_sizes_that_do_not_divide_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"resize=3 for images of 8 x 8 .* 2, 4, 8"):
        data.load("digits", size=3)
    with pytest.raises(ValueError, match="only square images of bytes are resized"):
        data.load("gaussians", size=2)
