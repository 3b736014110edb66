"""Label noise, drawn once and fixed for a whole run."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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

    Examples:
      >>> labels = np.array([0, 1, 2, 0])
      >>> noisy, changed = add_label_noise(
      ...     0, labels, 1.0, 3, kind="asymmetric", mapping=(1, 1, 0)
      ... )
      >>> noisy.tolist(), changed.tolist()
      ([1, 1, 0, 1], [True, False, True, True])
    """
    labels = np.asarray(labels)
    _check_classes("labels", labels, checks.integer("num_classes", num_classes, 2))
    options: dict[str, Any] = {"exclude_true": exclude_true, "mapping": mapping}
    noise = draw_label_noise(
        seed, len(labels), fraction, num_classes, kind=kind, **options
    )
    noisy = noise.replace(np.arange(len(labels)), labels)
    return noisy, noisy != labels


class LabelNoise(NamedTuple):
    """What happens to the label of every example, before any label is known.

    chosen: whether it is replaced, bool[n]. drawn: uniform noise's class, or by how
      much it moves on from the true one, i[n]; None for asymmetric noise.
    mapping: asymmetric noise's class for each, i[num_classes]; None for uniform noise.
    """

    chosen: np.ndarray
    drawn: np.ndarray | None
    mapping: np.ndarray | None
    exclude_true: bool
    num_classes: int

    def replace(
        self, numbers: Int[np.ndarray, " b"], labels: Int[np.ndarray, " b"]
    ) -> Int32[np.ndarray, " b"]:
        """The noisy labels of the examples of these numbers.

        An example's label depends on its number and its true label alone: it is the
        same in any order, in any batch and on any host.
        """
        labels = np.asarray(labels)
        if self.mapping is not None:
            other = self.mapping[labels]
        else:
            assert self.drawn is not None
            other = self.drawn[numbers]
            if self.exclude_true:
                other = (labels + 1 + other) % self.num_classes
        return np.where(self.chosen[numbers], other, labels).astype(np.int32)


def draw_label_noise(
    seed: Any,
    n: int,
    fraction: float,
    num_classes: int,
    *,
    kind: str = "uniform",
    exclude_true: bool = False,
    mapping: Sequence[int] | None = None,
) -> LabelNoise:
    """The noise of `add_label_noise` for n examples, for labels that come later.

    Raises: ValueError as `add_label_noise`.
    """
    checks.integer("num_classes", num_classes, 2)
    checks.number("fraction", fraction, 0, 1)
    if kind not in NOISES:
        raise ValueError(f"Unknown label noise {kind!r}; known: {', '.join(NOISES)}.")
    drawn = table = None
    if kind == "asymmetric":
        table = _table(num_classes, mapping, exclude_true)
    elif mapping is None:
        high = num_classes - 1 if exclude_true else num_classes
        drawn = streams.integers(n, high, seed, Purpose.NOISE, 1)
    else:
        raise ValueError(
            f"Received mapping={mapping!r} for uniform label noise, which has none; "
            "use kind='asymmetric'."
        )
    chosen = np.zeros(n, bool)
    order = streams.permutation(n, seed, Purpose.NOISE, 0)
    chosen[order[: round(fraction * n)]] = True
    return LabelNoise(chosen, drawn, table, exclude_true, num_classes)


def _table(
    num_classes: int, mapping: Sequence[int] | None, exclude_true: bool
) -> Int[np.ndarray, " classes"]:
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
    return table


def _check_classes(name: str, classes: np.ndarray, num_classes: int) -> None:
    if not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"Received {name} of dtype {classes.dtype}; give integers.")
    if classes.size and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(
            f"Received {name} from {classes.min()} to {classes.max()}; with "
            f"num_classes={num_classes} they lie in [0, {num_classes - 1}]."
        )
