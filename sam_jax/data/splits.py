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
