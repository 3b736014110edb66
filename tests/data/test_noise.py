import numpy as np
import pytest

from sam_jax.data import add_label_noise

CIFAR_MAPPING = (0, 1, 0, 5, 7, 3, 6, 7, 8, 1)


def labels(n, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.333, 0.6, 0.9, 1.0])
def test_exactly_the_fraction_of_labels_is_replaced(fraction):
    """A class drawn does not depend on the true one: where two constant labellings get
    the same label, that label was drawn."""
    n = 1437
    zeros, _ = add_label_noise(3, np.zeros(n, int), fraction, 10)
    ones, _ = add_label_noise(3, np.ones(n, int), fraction, 10)
    assert (zeros == ones).sum() == round(fraction * n)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.6, 1.0])
def test_without_the_true_class_every_replaced_label_changes(fraction):
    true = labels(1000, 4)
    noisy, changed = add_label_noise(0, true, fraction, 4, exclude_true=True)
    assert changed.sum() == round(fraction * 1000)
    np.testing.assert_array_equal(changed, noisy != true)


def test_uniform_noise_keeps_the_share_of_chance():
    """fraction * (1 - 1/C) of the labels change, and each replaced label is each class
    equally often (both to four standard deviations)."""
    n, classes, fraction = 40_000, 5, 0.6
    true = labels(n, classes)
    noisy, changed = add_label_noise(7, true, fraction, classes)
    np.testing.assert_array_equal(changed, noisy != true)
    share = 1 - 1 / classes
    deviation = np.sqrt(share * (1 - share) * fraction / n)
    assert abs(changed.mean() - fraction * share) < 4 * deviation
    for label in range(classes):
        counts = np.bincount(noisy[changed & (true == label)], minlength=classes)
        assert counts[label] == 0
        mean = counts.sum() / (classes - 1)
        others = np.delete(counts, label)
        assert np.abs(others - mean).max() < 4 * np.sqrt(mean)


def test_two_classes_at_80_percent_are_not_inverted_unless_asked():
    true = labels(20_000, 2)
    _, changed = add_label_noise(0, true, 0.8, 2)
    _, inverted = add_label_noise(0, true, 0.8, 2, exclude_true=True)
    assert abs(changed.mean() - 0.4) < 0.02
    assert inverted.mean() == 0.8


def test_more_noise_contains_less_noise():
    true = labels(500, 10)
    less, _ = add_label_noise(1, true, 0.2, 10, exclude_true=True)
    more, _ = add_label_noise(1, true, 0.7, 10, exclude_true=True)
    replaced = less != true
    np.testing.assert_array_equal(more[replaced], less[replaced])


def test_asymmetric_noise_follows_the_mapping():
    true = labels(1000, 10)
    noisy, changed = add_label_noise(
        0, true, 0.4, 10, kind="asymmetric", mapping=CIFAR_MAPPING
    )
    target = np.array(CIFAR_MAPPING)[true]
    np.testing.assert_array_equal(noisy[changed], target[changed])
    everywhere, _ = add_label_noise(
        0, true, 1.0, 10, kind="asymmetric", mapping=CIFAR_MAPPING
    )
    np.testing.assert_array_equal(everywhere, target)
    shifted, moved = add_label_noise(
        0, true, 0.4, 10, kind="asymmetric", mapping=(*range(1, 10), 0)
    )
    assert moved.sum() == 400
    np.testing.assert_array_equal(shifted[moved], (true[moved] + 1) % 10)


def test_the_noise_is_the_same_for_ever():
    """Numbers noted once: results of old runs must stay comparable."""
    noisy, changed = add_label_noise(0, np.arange(20) % 10, 0.6, 10)
    assert noisy.tolist() == [
        0,
        1,
        0,
        7,
        5,
        5,
        9,
        3,
        5,
        9,
        8,
        4,
        0,
        2,
        4,
        5,
        6,
        7,
        8,
        8,
    ]
    assert changed.sum() == 11
    assert noisy.dtype == np.int32
    assert changed.dtype == bool


def test_seeds_differ_and_the_given_labels_stay():
    true = labels(300, 10).astype(np.int32)
    copy = true.copy()
    first, _ = add_label_noise(0, true, 0.5, 10)
    same, _ = add_label_noise(0, true, 0.5, 10)
    other, _ = add_label_noise(1, true, 0.5, 10)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    np.testing.assert_array_equal(true, copy)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, [0, 1], 1.2, 2), {}, r"fraction=1.2; give a .*number in \[0, 1\]"),
        ((0, [0, 1], -0.1, 2), {}, r"fraction=-0.1; give a .*number in \[0, 1\]"),
        (
            (0, [0, 1], float("nan"), 2),
            {},
            r"fraction=nan; give a .*number in \[0, 1\]",
        ),
        ((-1, [0, 1], 0.5, 2), {}, "seed=-1; give an integer >= 0"),
        ((0.5, [0, 1], 0.5, 2), {}, "seed=0.5; give an integer >= 0"),
        ((0, [0, 2], 0.5, 2), {}, r"labels from 0 to 2; .*lie in \[0, 1\]"),
        ((0, [-1, 1], 0.5, 2), {}, r"labels from -1 to 1; .*lie in \[0, 1\]"),
        ((0, [0, 0], 0.5, 1), {}, "num_classes=1; give an integer >= 2"),
        (
            (0, [0, 1], 0.5, 2),
            {"kind": "pair"},
            "noise 'pair'; known: uniform, asymmetric",
        ),
        ((0, [0, 1], 0.5, 2), {"mapping": (1, 0)}, "use kind='asymmetric'"),
        (
            (0, [0, 1, 2], 0.5, 3),
            {"kind": "asymmetric"},
            r"mapping=None; .*each of the 3, such as \(1, 2, 0\)",
        ),
        (
            (0, [0, 1, 2], 0.5, 3),
            {"kind": "asymmetric", "mapping": (1, 0)},
            "needs a class for each of the 3",
        ),
        (
            (0, [0, 1], 0.5, 2),
            {"kind": "asymmetric", "mapping": (1, 2)},
            "mapping from 1 to 2",
        ),
        (
            (0, [0, 1], 0.5, 2),
            {"kind": "asymmetric", "mapping": (1, 0), "exclude_true": True},
            "leave it out",
        ),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    seed, given, *rest = arguments
    with pytest.raises(ValueError, match=message):
        add_label_noise(seed, np.array(given), *rest, **options)
