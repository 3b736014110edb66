"""Data sets that need no download."""

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sam_jax import checks, extras
from sam_jax.data import streams
from sam_jax.data.dataset import Dataset, channel_statistics
from sam_jax.data.splits import split_test
from sam_jax.data.streams import Purpose

# The split of the digits is part of the data set: it does not follow the run's seed.
SPLIT_SEED = 0
DIGITS_TEST_PER_CLASS = 36
DIGITS_FILE = "datasets/data/digits.csv.gz"


def digits() -> Dataset:
    """The 1797 handwritten digits that scikit-learn ships (UCI, Alpaydin & Kaynak).

    8x8 pixels of 17 grey levels, uint8 in 0..16 (scale 1/16). The set has no official
    split: 36 random images of every class are the test set (360), the other 1437 the
    training set, the same for everyone.
    """
    table = _digits_table()
    images = table[:, :64].reshape(-1, 8, 8, 1)
    labels = table[:, 64].astype(np.int32)
    train, test = split_test(SPLIT_SEED, labels, DIGITS_TEST_PER_CLASS)
    mean, std = channel_statistics(images[train])
    return Dataset(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
        mean=mean,
        std=std,
        scale=1 / 16,
    )


def two_gaussians(
    seed: int = 0,
    *,
    train: int = 50,
    test: int = 1000,
    dimension: int = 100,
    sigma: float = 0.1,
) -> Dataset:
    """Two classes, each a Gaussian ball around a random point of the unit sphere.

        x_i = mu_{y_i} + sigma e_i,   y_i = i mod 2,   e_i ~ N(0, I_d),
        mu_c = z_c / |z_c|,   z_c ~ N(0, I_d)

    The defaults are those of the paper's linear model (Fig. 4, App. C). Shaped as
    images [n, 1, 1, dimension]; mean 0 and std 1, so that normalisation leaves the
    points where they are.

    Args:
      seed: integer >= 0; draws mu, then the training, then the test noise.
      train, test: numbers of examples, >= 2. dimension: d >= 1. sigma: > 0.
    """
    checks.integer("train", train, 2)
    checks.integer("test", test, 2)
    checks.integer("dimension", dimension, 1)
    if not 0 < sigma < np.inf:
        raise ValueError(f"Received sigma={sigma!r}; give a finite number > 0.")
    random = np.random.default_rng(streams.sequence(seed, Purpose.GAUSSIANS))
    centres = random.standard_normal((2, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n, dtype=np.int32) % 2
        points = centres[labels] + sigma * random.standard_normal((n, dimension))
        return points.astype(np.float32)[:, None, None, :], labels

    train_points, train_labels = sample(train)
    test_points, test_labels = sample(test)
    return Dataset(
        train_images=train_points,
        train_labels=train_labels,
        test_images=test_points,
        test_labels=test_labels,
        class_names=("first", "second"),
        mean=np.zeros(dimension, np.float32),
        std=np.ones(dimension, np.float32),
        scale=1.0,
    )


def _digits_table() -> UInt8[np.ndarray, "n 65"]:
    """The digits as scikit-learn keeps them: 64 pixels and the label in a row.

    Its file is read without scikit-learn, whose import takes ten times as long.
    """
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / DIGITS_FILE
        if file.exists():
            return np.loadtxt(file, np.uint8, delimiter=",")
    extras.require("The embedded digits", "train")
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.column_stack([data.data, data.target]).astype(np.uint8)
