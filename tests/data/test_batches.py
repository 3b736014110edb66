import numpy as np
import pytest

from sam_jax.data import epoch_batches


@pytest.mark.parametrize(("n", "batch_size"), [(64, 8), (67, 8), (5, 5), (9, 1)])
def test_an_epoch_shows_each_example_at_most_once(n, batch_size):
    batches = epoch_batches(0, 0, n, batch_size)
    assert batches.shape == (n // batch_size, batch_size)
    assert batches.dtype == np.int32
    assert len(np.unique(batches)) == batches.size
    assert batches.min() >= 0
    assert batches.max() < n


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        epoch_batches(seed, epoch, 50, 10).ravel().tolist()
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    ]
    assert len(set(map(tuple, orders))) == 6
    assert orders[4] == epoch_batches(1, 1, 50, 10).ravel().tolist()


def test_the_leftover_examples_change_from_epoch_to_epoch():
    """Of 10 examples in batches of 4 two are left over: each about 1/5 of the time."""
    shown = np.zeros(10)
    for epoch in range(1000):
        shown[epoch_batches(0, epoch, 10, 4).ravel()] += 1
    assert np.abs(shown - 800).max() < 4 * np.sqrt(1000 * 0.8 * 0.2)


def test_the_order_is_the_same_for_ever():
    """Numbers noted once: a run resumed later must go on with the same batches."""
    assert epoch_batches(0, 3, 10, 5).tolist() == [[1, 2, 6, 3, 5], [4, 7, 0, 8, 9]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 10, 11), "batch_size=11 for 10 training examples; give at most 10"),
        ((0, 0, 10, 0), "batch_size=0; give an integer >= 1"),
        ((0, 0, 0, 1), "n=0; give an integer >= 1"),
        ((0, -1, 10, 2), "epoch=-1; give an integer >= 0"),
        ((None, 0, 10, 2), "seed=None; give an integer >= 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        epoch_batches(*arguments)


def test_batches_to_ascend_on_have_an_order_of_their_own():
    order, own = (
        epoch_batches(3, 1, 1000, 1000, to_ascend_on=flag)[0] for flag in (False, True)
    )
    np.testing.assert_array_equal(np.sort(own), np.arange(1000))
    # Of two independent orders the positions agree once on average.
    assert (own == order).sum() < 10
    assert not np.array_equal(
        own, epoch_batches(3, 2, 1000, 1000, to_ascend_on=True)[0]
    )
