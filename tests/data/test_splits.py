import numpy as np
import pytest

from sam_jax.data import (
    add_label_noise,
    balanced_subset,
    epoch_batches,
    split_validation,
)


@pytest.mark.parametrize(("n", "fraction", "held_out"), [
    (1437, 0.1, 144), (50_000, 0.1, 5000), (7, 0.0, 0), (3, 0.5, 2),
])  # fmt: skip
def test_the_parts_are_a_partition_of_the_right_sizes(n, fraction, held_out):
    train, valid = split_validation(0, n, fraction)
    assert len(valid) == held_out
    np.testing.assert_array_equal(np.sort([*train, *valid]), np.arange(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


def test_every_example_is_held_out_equally_often():
    counts = np.zeros(20)
    for seed in range(1000):
        counts[split_validation(seed, 20, 0.25)[1]] += 1
    deviation = np.sqrt(1000 * 0.25 * 0.75)
    assert np.abs(counts - 250).max() < 4 * deviation


def test_one_seed_gives_independent_noise_split_and_order():
    """Were the streams the same, the held-out examples would be the noisy ones, or the
    first of the epoch."""
    n = 10_000
    _, valid = split_validation(0, n, 0.1)
    held_out = np.isin(np.arange(n), valid)
    _, changed = add_label_noise(0, np.zeros(n, int), 0.1, 2, exclude_true=True)
    first = np.isin(np.arange(n), epoch_batches(0, 0, n, n)[0, :1000])
    for one, other in ((held_out, changed), (held_out, first), (changed, first)):
        assert abs((one & other).sum() - 100) < 40


def test_the_split_is_the_same_for_ever():
    """Numbers noted once: results of old runs must stay comparable."""
    assert split_validation(0, 20, 0.3)[1].tolist() == [7, 8, 10, 13, 17, 19]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 1.0), "holds out all 10 examples"),
        ((0, 10, 1.5), r"fraction=1.5; give a .*number in \[0, 1\]"),
        ((0, 10, float("nan")), "fraction=nan"),
        ((0, 1, 0.9), "holds out all 1 examples"),
        ((0, 0, 0.1), "n=0; give an integer >= 1"),
        (("a", 10, 0.1), "seed='a'; give an integer >= 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_validation(*arguments)


@pytest.mark.parametrize(("size", "each"), [(30, [10, 10, 10]), (8, [3, 3, 2])])
def test_a_subset_has_as_many_of_every_class(size, each):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 20, 40]))
    kept = balanced_subset(0, labels, size)
    np.testing.assert_array_equal(np.bincount(labels[kept]), each)
    assert (np.diff(kept) > 0).all()


def test_every_example_of_a_class_is_kept_equally_often():
    labels = np.repeat([0, 1], [8, 24])
    counts = np.zeros(32)
    for seed in range(1000):
        counts[balanced_subset(seed, labels, 12)] += 1
    assert np.abs(counts[:8] - 750).max() < 4 * np.sqrt(1000 * 0.75 * 0.25)
    assert np.abs(counts[8:] - 250).max() < 4 * np.sqrt(1000 * 0.75 * 0.25)


def test_subsets_larger_than_the_least_class_allows_are_refused():
    labels = np.repeat([0, 1], [8, 24])
    with pytest.raises(ValueError, match=r"train_examples=17 of 32 .* at most 16, or"):
        balanced_subset(0, labels, 17)
    with pytest.raises(ValueError, match="size"):
        balanced_subset(0, labels, 1)


def test_the_subset_is_the_same_for_ever():
    labels = np.arange(20) % 2
    assert balanced_subset(0, labels, 6).tolist() == [0, 4, 8, 9, 15, 17]
