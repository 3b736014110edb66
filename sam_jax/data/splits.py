"""Which examples are held out."""

from typing import Any

import numpy as np
from jaxtyping import Int

from sam_jax import checks
from sam_jax.data import streams
from sam_jax.data.streams import Purpose


def split_validation(
    seed: Any, n: int, fraction: float
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " valid"]]:
    """Holds out round(fraction * n) of n training examples at random.

    The paper takes 10% of the training set AFTER label noise, so that choosing an epoch
    or rho needs no clean labels (App. C): hold out from the noisy labels.

    Args:
      seed: integer >= 0. fraction: in [0, 1); 0 holds out nothing.

    Returns: positions of the training and of the validation examples, each ascending.
    Raises: ValueError for what is out of range, or when nothing is left to train on.
    """
    checks.integer("n", n, 1)
    checks.number("fraction", fraction, 0, 1)
    held_out = round(fraction * n)
    if held_out == n:
        raise ValueError(
            f"Received fraction={fraction!r}, which holds out all {n} examples; give a "
            "number in [0, 1) that leaves some to train on, such as 0.1."
        )
    order = streams.permutation(n, seed, Purpose.VALIDATION)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def split_documents(
    seed: Any, documents: Int[np.ndarray, " n"], fraction: float
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " valid"]]:
    """`split_validation` of whole documents: none is on both sides.

    Args:
      documents: the number of the document that each example is from.

    Returns: positions of the examples, ascending.
    """
    numbers = np.unique(documents)
    parts = split_validation(seed, len(numbers), fraction)
    train, held_out = (
        np.flatnonzero(np.isin(documents, numbers[part])) for part in parts
    )
    return train, held_out


def balanced_subset(
    seed: Any, labels: Int[np.ndarray, " n"], size: int
) -> Int[np.ndarray, " size"]:
    """Positions of `size` random examples, as many of every class, ascending.

    Where the classes do not divide the size, the first ones have one example more.

    Raises: ValueError for more examples than a class has, or fewer than classes.
    """
    classes = np.unique(labels)
    checks.integer("size", size, len(classes))
    order = streams.permutation(len(labels), seed, Purpose.SUBSET)
    each, more = divmod(size, len(classes))
    wanted = [each + (i < more) for i in range(len(classes))]
    parts = [
        order[labels[order] == label][:count]
        for label, count in zip(classes, wanted, strict=True)
    ]
    found = np.sort(np.concatenate(parts))
    if len(found) < size:
        least = min(np.sum(labels == label) for label in classes)
        raise ValueError(
            f"Received data.train_examples={size} of {len(labels)} examples in "
            f"{len(classes)} classes, the least of which has {least}; give at most "
            f"{least * len(classes)}, or 0 for all."
        )
    return found


def random_subset(
    seed: Any, positions: Int[np.ndarray, " n"], size: int, purpose: Purpose
) -> Int[np.ndarray, " m"]:
    """`size` of the positions at random, ascending; all of them if there are fewer."""
    order = streams.permutation(len(positions), seed, purpose)
    return np.sort(positions[order[:size]])


def split_test(
    seed: Any, labels: Int[np.ndarray, " n"], per_class: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Takes `per_class` random examples of every class as a test set.

    Returns: positions of the training and of the test examples, each ascending.
    """
    order = streams.permutation(len(labels), seed, Purpose.TEST)
    parts = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    test = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), test), test
