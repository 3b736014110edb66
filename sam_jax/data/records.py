"""Images read from prepared records while a run goes on: for sets larger than memory.

The records are those that TFDS has prepared as array_record. Example i is record i of
the training split, and after those record i of the test split: the order in which they
were written, which is the same wherever the same version was prepared. grain reads
ahead in threads.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from sam_jax import checks, extras
from sam_jax.data import tfds_source
from sam_jax.data.dataset import channel_statistics

# Examples, evenly spaced, that mean and deviation of the channels are taken from.
SAMPLE = 1024
AHEAD = 8  # batches that are read before they are asked for, each by a thread


@runtime_checkable
class Source(Protocol):
    """Records by number: {"image": uint8[height, width, channels], "label": int}."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Mapping[str, Any]: ...


class Records(NamedTuple):
    """A data set on disk.

    train, test: its splits. class_names: one for each label. size: side of the square
    images that come out; 0 if all have one size. mean, std: f32[channels], in units of
    the stored images, over SAMPLE training images. version: what tells the data apart.
    """

    train: Source
    test: Source
    class_names: tuple[str, ...]
    size: int
    mean: np.ndarray
    std: np.ndarray
    version: str

    def example(self, number: int | np.integer) -> dict[str, Any]:
        """Image and true label of one example, {"image", "label", "number"}."""
        count = len(self.train)
        number = int(number)
        split, place = (
            (self.train, number) if number < count else (self.test, number - count)
        )
        record = split[place]
        return {
            "image": fit(np.asarray(record["image"]), self.size),
            "label": np.int32(record["label"]),
            "number": np.int64(number),
        }

    def examples(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Several of them, {"image": [b, ...], "label": i32[b], "number": i64[b]}."""
        read = [self.example(number) for number in numbers]
        return {name: np.stack([one[name] for one in read]) for name in read[0]}

    def batches(self, numbers: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """`examples` of each batch i[b] of numbers, in order, read ahead."""
        import grain

        reading = grain.ReadOptions(num_threads=AHEAD, prefetch_buffer_size=AHEAD)
        every = grain.MapDataset.source(numbers).map(self.examples)
        yield from every.to_iter_dataset(reading)


def load(
    name: str, *, size: int = 0, data_dir: str | os.PathLike | None = None
) -> Records:
    """Any image data set that TFDS has prepared as array_record, such as imagenet2012.

    Args:
      name: of the data set; its records have `image` and `label`.
      size: side of the images: the square in their middle, resized; 0 leaves them.

    Raises: UnavailableDataError as `tfds_source.load`.
    """
    checks.integer("size", size, 0)
    extras.require("Reading records", "data")
    folder = tfds_source.find(name, data_dir)
    train, test, class_names = tfds_source.open_records(name, data_dir, folder)
    version = f"{name} {folder.name} {len(train)} {len(test)} {size}"
    return create(train, test, class_names, size=size, version=version)


def create(
    train: Source,
    test: Source,
    class_names: Sequence[str],
    *,
    size: int = 0,
    version: str = "",
) -> Records:
    """Records of any sources; mean and deviation are those of a sample."""
    count = min(SAMPLE, len(train))
    numbers = np.arange(count) * len(train) // count
    sample = np.stack([fit(np.asarray(train[int(i)]["image"]), size) for i in numbers])
    mean, std = channel_statistics(sample)
    return Records(train, test, tuple(class_names), size, mean, std, version)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The largest square in the middle of an image, resized to size x size by Pillow's
    bilinear filter; the image itself for size 0.
    """
    if not size or image.shape[:2] == (size, size):
        return image
    from PIL import Image

    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    grey = square.shape[-1] == 1
    picture = Image.fromarray(square[..., 0] if grey else square)
    resized = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    return resized[..., None] if grey else resized
