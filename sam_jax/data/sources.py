"""Data sets by name."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sam_jax import checks
from sam_jax.data import embedded, text, tfds_source
from sam_jax.data.dataset import CONTRACT, Dataset, check, resize, select_classes

# Each takes the data directory; the embedded ones need none.
SOURCES: dict[str, Callable[[Any], Dataset]] = {
    "digits": lambda _: embedded.digits(),
    "gaussians": lambda _: embedded.two_gaussians(),
    **{name: functools.partial(tfds_source.load, name) for name in tfds_source.NAMES},
}
NAMES = (*SOURCES, *text.CORPORA)


def load(
    name: str,
    *,
    classes: Sequence[str] | None = None,
    size: int = 0,
    length: int = 128,
    path: str = "",
    options: Mapping[str, Any] | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Dataset:
    """The data set of this name, whole in memory.

    digits and gaussians need no download. cifar10, cifar100, mnist and fashion_mnist
    are prepared once, by `make data NAME=cifar10`. Text: stdlib (Python's standard
    library) and text (a file or folder of yours) need no download either;
    tiny_shakespeare and imdb_reviews are prepared.

    Args:
      name: one of NAMES, or "package.module:attribute", a function of your own that
        returns a `Dataset`.
      classes: keep these classes alone, renumbered in this order, such as ("horse",
        "automobile"); None or () keeps all.
      size: of the images, which become size x size by the means of blocks of pixels;
        0 leaves them as they are.
      length: bytes of a sequence of text. path: file or folder of "text".
      options: of a data set of your own, handed to its function.
      data_dir: where TFDS data sets are; default $TFDS_DATA_DIR, or
        ~/tensorflow_datasets.

    Raises: ValueError for an unknown name or class, or a size that is none of the
      images'; UnavailableDataError (a ValueError) for a data set that is not prepared,
      with the command that prepares it.
    """
    if name in text.CORPORA:
        if classes or size:
            raise ValueError(
                f"Received classes={classes!r}, size={size} for the text {name!r}, "
                "which has neither; leave them out (data.classes=(), data.resize=0)."
            )
        return text.load(name, length=length, path=path, data_dir=data_dir)
    if ":" in name:
        return from_source(
            checks.imported("data set", name), name, classes, size, options
        )
    checks.choose("data set", name, dict.fromkeys(NAMES))
    if options:
        raise ValueError(
            f"Received data.options={dict(options)} for the data set {name!r}, which "
            "has none; they are for one of your own. Set data.options={}."
        )
    return _part(SOURCES[name](data_dir), classes, size)


def from_source(
    source: Any,
    name: str,
    classes: Sequence[str] | None = None,
    size: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """The checked data set that a source is, or returns when called with the options.

    Raises: ValueError of one line, with the contract, for anything else.
    """
    if not isinstance(source, Dataset) and not callable(source):
        raise ValueError(f"The data set {name} is {source!r}. {CONTRACT}")
    if callable(source):
        try:
            source = source(**(options or {}))
        except TypeError as error:
            raise ValueError(
                f"The data set {name} cannot be made of the options "
                f"{dict(options or {})}: {error}. {CONTRACT}"
            ) from error
    if not isinstance(source, Dataset):
        raise ValueError(
            f"The data set {name} is a {type(source).__name__}. {CONTRACT}"
        )
    check(source, name)
    return _part(source, classes, size)


def _part(dataset: Dataset, classes: Sequence[str] | None, size: int) -> Dataset:
    """The images at a size, and the examples of some classes."""
    if size:
        dataset = resize(dataset, size)
    return select_classes(dataset, classes) if classes else dataset
