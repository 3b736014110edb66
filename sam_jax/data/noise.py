"""Label noise, drawn once and fixed for a whole run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32

from sam_jax import checks
from sam_jax.data import streams
from sam_jax.data.streams import Purpose

NOISES = ("uniform", "asymmetric")


def add_label_noise(
    seed: Any,
    labels: Int[np.ndarray, " n"],
    fraction: float,
    num_classes: int,
    *,
    kind: str = "uniform",
    exclude_true: bool = False,
    mapping: Sequence[int] | None = None,
) -> tuple[Int32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Replaces the labels of exactly round(fraction * n) examples.

    uniform: by a class drawn from all of them, the true one included (paper, Sec. 4),
    so that a share 1 / num_classes of the replaced labels stays right by chance.
    asymmetric: class c by mapping[c] (Patrini et al. 2017, Sec. 5); for CIFAR-10 their
    mapping is (0, 1, 0, 5, 7, 3, 6, 7, 8, 1).

    Args:
      seed: integer >= 0. With the same one, the examples replaced at a smaller fraction
        are among those replaced at a larger one, by the same classes.
      labels: classes in [0, num_classes).
      fraction: in [0, 1]; round is Python's (halves go to the even number).
      exclude_true: uniform noise draws from the other classes only. Many codes do; with
        two classes, a fraction above 1/2 then inverts the labels.
      mapping: for asymmetric noise, num_classes classes; mapping[c] = c spares c.

    Returns: the noisy labels, and where they differ from the given ones.
    Raises: ValueError for what is out of range, or an option of the other kind.
    """
    labels = np.asarray(labels)
    n = len(labels)
    checks.integer("num_classes", num_classes, 2)
    checks.number("fraction", fraction, 0, 1)
    _check_classes("labels", labels, num_classes)
    if kind not in NOISES:
        raise ValueError(f"Unknown label noise {kind!r}; known: {', '.join(NOISES)}.")
    if kind == "asymmetric":
        target = _asymmetric(labels, num_classes, mapping, exclude_true)
    elif mapping is None:
        target = _uniform(seed, labels, num_classes, exclude_true)
    else:
        raise ValueError(
            f"Received mapping={mapping!r} for uniform label noise, which has none; "
            "use kind='asymmetric'."
        )
    chosen = streams.permutation(n, seed, Purpose.NOISE, 0)[: round(fraction * n)]
    noisy = labels.astype(np.int32)
    noisy[chosen] = target[chosen]
    return noisy, noisy != labels


def _uniform(
    seed: Any, labels: Int[np.ndarray, " n"], num_classes: int, exclude_true: bool
) -> Int[np.ndarray, " n"]:
    if exclude_true:
        step = streams.integers(len(labels), num_classes - 1, seed, Purpose.NOISE, 1)
        return (labels + 1 + step) % num_classes
    return streams.integers(len(labels), num_classes, seed, Purpose.NOISE, 1)


def _asymmetric(
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    mapping: Sequence[int] | None,
    exclude_true: bool,
) -> Int[np.ndarray, " n"]:
    if exclude_true:
        raise ValueError(
            "Received exclude_true=True for asymmetric label noise, whose mapping says "
            "already where each class goes; leave it out."
        )
    if mapping is None or len(mapping) != num_classes:
        raise ValueError(
            f"Received mapping={mapping!r}; asymmetric label noise needs a class for "
            f"each of the {num_classes}, such as {(*range(1, num_classes), 0)}."
        )
    table = np.asarray(mapping)
    _check_classes("mapping", table, num_classes)
    return table[labels]


def _check_classes(name: str, classes: np.ndarray, num_classes: int) -> None:
    if not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"Received {name} of dtype {classes.dtype}; give integers.")
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(
            f"Received {name} from {classes.min()} to {classes.max()}; with "
            f"num_classes={num_classes} they lie in [0, {num_classes - 1}]."
        )
