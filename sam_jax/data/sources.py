"""Data sets by name."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

from sam_jax import checks
from sam_jax.data import embedded, tfds_source
from sam_jax.data.dataset import Dataset, resize, select_classes

# Each takes the data directory; the embedded ones need none.
SOURCES: dict[str, Callable[[Any], Dataset]] = {
    "digits": lambda _: embedded.digits(),
    "gaussians": lambda _: embedded.two_gaussians(),
    **{name: functools.partial(tfds_source.load, name) for name in tfds_source.NAMES},
}
NAMES = tuple(SOURCES)


def load(
    name: str,
    *,
    classes: Sequence[str] | None = None,
    size: int = 0,
    data_dir: str | os.PathLike | None = None,
) -> Dataset:
    """The data set of this name, whole in memory.

    digits and gaussians need no download. cifar10, cifar100, mnist and fashion_mnist
    are prepared once, by `make data NAME=cifar10`.

    Args:
      name: one of NAMES.
      classes: keep these classes alone, renumbered in this order, such as ("horse",
        "automobile"); None or () keeps all.
      size: of the images, which become size x size by the means of blocks of pixels;
        0 leaves them as they are.
      data_dir: where TFDS data sets are; default $TFDS_DATA_DIR, or
        ~/tensorflow_datasets.

    Raises: ValueError for an unknown name or class, or a size that is none of the
      images'; UnavailableDataError (a ValueError)
      for a data set that is not prepared, with the command that prepares it.
    """
    source = checks.choose("data set", name, SOURCES)
    dataset = source(data_dir)
    if size:
        dataset = resize(dataset, size)
    return select_classes(dataset, classes) if classes else dataset
