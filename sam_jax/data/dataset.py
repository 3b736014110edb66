"""What a data set is, and how its pixels become inputs of a network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

# Images summed at once; the sums stay exact in 64-bit integers.
CHUNK = 4096


class UnavailableDataError(ValueError):
    """A data set that cannot be read; the message says which command mends it."""


class Dataset(NamedTuple):
    """A data set, whole in memory.

    train_images, test_images: [N, height, width, channels], uint8 as stored, or
      float32 where the data are no pictures.
    train_labels, test_labels: i32[N], numbers of `class_names`.
    class_names: one for each label.
    mean, std: f32[channels] over the whole training split, in units of the stored
      images; what `normalize` takes.
    scale: `images * scale` lies in [0, 1] (1/255; 1/16 for digits); 1 for float data.

    Of text the images are tokens, integers [N, length], and the labels the token after
    each, [N, length], negative where there is none to predict; mean and std are None.

    train_documents: i32[N], the document that each training example is from, where
      examples belong together: whole documents are held out to validate. None for none.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: np.ndarray | None
    std: np.ndarray | None
    scale: float
    train_documents: np.ndarray | None = None

    @property
    def is_text(self) -> bool:
        """Whether its examples are sequences of tokens."""
        return self.train_labels.ndim == 2

    @property
    def num_classes(self) -> int:
        """Number of classes; of text the size of the vocabulary."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels); (length,) of text."""
        return self.train_images.shape[1:]


CONTRACT = (
    "A data set of your own is a sam_jax.data.Dataset, or a function that returns one: "
    "images [N, height, width, channels] of uint8 or float32, integer labels [N] that "
    "number class_names, mean and std of every channel, and scale."
)


def check(dataset: Dataset, name: str) -> None:
    """Raises ValueError of one line unless the arrays of a data set fit together.

    Text, whose images are tokens [N, length], has labels [N, length].
    """
    for part in ("train", "test"):
        images = np.asarray(getattr(dataset, f"{part}_images"))
        labels = np.asarray(getattr(dataset, f"{part}_labels"))
        shape = images.shape if images.ndim == 2 else images.shape[:1]
        wrong = ""
        if images.ndim not in (2, 4) or len(images) == 0:
            wrong = f"images of shape {images.shape}"
        elif labels.shape != shape or not np.issubdtype(labels.dtype, np.integer):
            wrong = f"labels of shape {labels.shape} and type {labels.dtype}"
        elif labels.max() >= dataset.num_classes or (
            images.ndim == 4 and labels.min() < 0
        ):
            wrong = f"labels from {labels.min()} to {labels.max()}"
        if wrong:
            raise ValueError(
                f"The data set {name} has {wrong} in its {part} part, for images of "
                f"shape {images.shape} and {dataset.num_classes} classes. {CONTRACT}"
            )
    channels = dataset.image_shape[-1:]
    shapes = tuple(np.asarray(x).shape for x in (dataset.mean, dataset.std))
    if len(dataset.image_shape) == 3 and shapes != (channels, channels):
        raise ValueError(
            f"The data set {name} has mean and std of shapes {shapes} for images of "
            f"{channels[0]} channels. {CONTRACT}"
        )


def normalize(
    images: Shaped[Array | np.ndarray, "*batch height width channels"],
    mean: Float[Array | np.ndarray, " channels"],
    std: Float[Array | np.ndarray, " channels"],
) -> Float[Array, "*batch height width channels"]:
    """(images - mean) / std channel by channel, in the dtype of `mean`.

    To be called inside a jitted function, so that pixels travel as uint8. For images
    already in [0, 1] (attacks), give `mean * scale` and `std * scale`.
    """
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    return (jnp.asarray(images, mean.dtype) - mean) / std


def channel_statistics(
    images: Shaped[np.ndarray, "n height width channels"],
) -> tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, " channels"]]:
    """Mean and standard deviation of each channel of uint8 images.

    From exact integer sums, hence the same on every machine. A constant channel gets
    the deviation 1: normalised, it is zero.
    """
    channels = images.shape[-1]
    total = np.zeros(channels, np.int64)
    squares = np.zeros(channels, np.int64)
    for start in range(0, len(images), CHUNK):
        pixels = images[start : start + CHUNK].reshape(-1, channels).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels * pixels).sum(axis=0)
    count = images.size // channels
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    std = np.where(images.min((0, 1, 2)) == images.max((0, 1, 2)), 1.0, std)
    return mean.astype(np.float32), std.astype(np.float32)


def resize(dataset: Dataset, size: int) -> Dataset:
    """The data set at size x size pixels, each the mean of a block of the original's.

    Means are rounded to the integers that pixels are, halves upwards. Mean and
    deviation of the channels are those of the new training images.

    Raises: ValueError for images that are not square bytes, and for a size that does
      not divide theirs.
    """
    height, width, _ = dataset.image_shape
    possible = [s for s in range(2, height + 1) if height % s == 0]
    if dataset.train_images.dtype != np.uint8 or height != width:
        raise ValueError(
            f"Received data.resize={size} for examples of shape {dataset.image_shape} "
            f"and type {dataset.train_images.dtype}; only square images of bytes are "
            "resized. Set data.resize=0."
        )
    if size not in possible:
        raise ValueError(
            f"Received data.resize={size} for images of {height} x {width} pixels; it "
            f"is to divide {height}: {', '.join(map(str, possible))}, or 0 to leave "
            "them as they are."
        )
    train, test = (
        _block_means(images, size)
        for images in (dataset.train_images, dataset.test_images)
    )
    mean, std = channel_statistics(train)
    return dataset._replace(train_images=train, test_images=test, mean=mean, std=std)


def _block_means(images: np.ndarray, size: int) -> np.ndarray:
    number, height, _, channels = images.shape
    side = height // size
    blocks = images.reshape(number, size, side, size, side, channels)
    sums = blocks.sum((2, 4), dtype=np.int64)
    return ((2 * sums + side**2) // (2 * side**2)).astype(np.uint8)


def select_classes(dataset: Dataset, classes: Sequence[Any]) -> Dataset:
    """The examples of some classes, renumbered in the order given.

    ("horse", "automobile") makes horses 0 and automobiles 1. Mean, deviation and the
    order of the examples stay those of the whole set.

    Raises: ValueError for an unknown or repeated name, or fewer than two.
    """
    known = dataset.class_names
    if (
        isinstance(classes, str)
        or len(set(classes)) != len(classes)
        or len(classes) < 2
    ):
        raise ValueError(
            f"Received classes={classes!r}; give two or more different names of "
            f"classes, such as {known[:2]!r}, or None for all of them."
        )
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ValueError(
            f"Unknown class {', '.join(map(repr, unknown))}; known: {', '.join(known)}."
        )
    number = np.full(len(known), -1, np.int32)
    number[[known.index(name) for name in classes]] = np.arange(len(classes))
    train, test = number[dataset.train_labels], number[dataset.test_labels]
    return dataset._replace(
        train_images=dataset.train_images[train >= 0],
        train_labels=train[train >= 0],
        test_images=dataset.test_images[test >= 0],
        test_labels=test[test >= 0],
        class_names=tuple(classes),
    )
