import collections
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sam_jax import data
from sam_jax.data import embedded


def test_an_unknown_data_set_lists_the_known_ones():
    images = "digits, gaussians, cifar10, cifar100, mnist, fashion_mnist"
    known = f"{images}, stdlib, text, tiny_shakespeare, imdb_reviews"
    with pytest.raises(ValueError, match=f"data set 'imagenet'; known: {known}"):
        data.load("imagenet")
    assert ", ".join(data.NAMES) == known


def test_digits_load_without_tfds_and_scikit_learn():
    """Both take seconds to import: most of the time before the first step."""
    code = """
import sys, sam_jax.data
sam_jax.data.load("digits")
print([name for name in sys.modules if "." not in name])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    for module in ("tensorflow", "tensorflow_datasets", "sklearn"):
        assert f"'{module}'" not in done.stdout


@pytest.mark.parametrize("file", [embedded.DIGITS_FILE, "moved.csv.gz"])
def test_digits_are_those_of_scikit_learn(file, monkeypatch):
    monkeypatch.setattr(embedded, "DIGITS_FILE", file)
    digits, original = data.load("digits"), load_digits()
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int32
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    assert digits.scale == 1 / 16
    np.testing.assert_array_equal(np.bincount(digits.test_labels), np.full(10, 36))

    def examples(images, labels):
        return collections.Counter(
            (int(label), image.astype(float).tobytes())
            for image, label in zip(images, labels, strict=True)
        )

    ours = examples(digits.train_images, digits.train_labels)
    ours += examples(digits.test_images, digits.test_labels)
    assert ours == examples(original.images, original.target)


def test_the_split_of_the_digits_is_the_same_for_ever():
    """Noted once: errors on the test set must stay comparable."""
    digits = data.load("digits")
    assert digits.train_labels[:15].tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        2,
        3,
        4,
        5,
        7,
    ]
    assert digits.test_labels[:15].tolist() == [
        0,
        1,
        6,
        9,
        5,
        4,
        7,
        8,
        3,
        3,
        3,
        6,
        2,
        1,
        1,
    ]
    assert int(digits.test_images.sum()) == 111961


def test_gaussians_lie_around_two_points_of_the_unit_sphere():
    """x - mu_y is N(0, sigma^2 I); mu is estimated from many examples."""
    n, d, sigma = 20_000, 10, 0.1
    balls = data.two_gaussians(0, train=n, test=2, dimension=d, sigma=sigma)
    points, labels = balls.train_images[:, 0, 0, :], balls.train_labels
    np.testing.assert_array_equal(labels, np.arange(n) % 2)
    for label in (0, 1):
        own = points[labels == label]
        assert abs(np.linalg.norm(own.mean(0)) - 1) < 4 * sigma / np.sqrt(n / 2)
        covariance = np.cov(own.T) / sigma**2
        np.testing.assert_allclose(covariance, np.eye(d), atol=0.07)


def test_gaussians_by_name_are_those_of_the_paper():
    balls = data.load("gaussians")
    assert balls.train_images.shape == (50, 1, 1, 100)
    assert balls.train_images.dtype == np.float32
    assert balls.num_classes == 2
    same = data.normalize(balls.train_images, balls.mean, balls.std)
    np.testing.assert_array_equal(same, balls.train_images)
    again = data.two_gaussians(0)
    np.testing.assert_array_equal(again.test_images, balls.test_images)
    assert (data.two_gaussians(1).test_images != balls.test_images).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma=0.0; give a finite number > 0"),
        ({"sigma": float("nan")}, "sigma=nan; give a finite number > 0"),
        ({"train": 1}, "train=1; give an integer >= 2"),
        ({"dimension": 0}, "dimension=0; give an integer >= 1"),
        ({"seed": -3}, "seed=-3; give an integer >= 0"),
    ],
)
def test_bad_gaussians_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.two_gaussians(**options)
