"""TFDS data sets as arrays, read without TensorFlow.

TFDS reads without TensorFlow only what was prepared as array_record, and only through
`as_data_source`; preparing needs TensorFlow once (`sam_jax.data.prepare`). TFDS writes
the records in a shuffled order. Here they are sorted, so that example i, and with it
label noise and splits, is the same for everyone:

- by the feature `id`, where the records have one (CIFAR: the source files' order);
- otherwise (MNIST, Fashion-MNIST) by the SHA-256 of label and pixels, which depends on
  nothing but the data. Equal examples may change places, which nobody can see.

Decoding takes seconds, so the sorted arrays are kept as one .npz beside the records.
What was prepared from the files of its authors (`sam_jax.data.idx`) is that .npz alone.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from sam_jax import extras, output
from sam_jax.data.dataset import Dataset, UnavailableDataError, channel_statistics

NAMES = ("cifar10", "cifar100", "mnist", "fashion_mnist")
TEXTS = ("tiny_shakespeare", "imdb_reviews")  # each with a feature "text"
CACHE_NAME = "sam_jax_arrays_1.npz"
FORMAT = "array_record"
WITHOUT_RECORDS = "idx"  # in place of the version

Arrays = dict[str, np.ndarray]
FIELDS = {
    "train_images",
    "train_labels",
    "test_images",
    "test_labels",
    "class_names",
}


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """A prepared TFDS data set, from its cache or from the records.

    Args:
      name: one of NAMES.
      data_dir: TFDS's data directory; default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises: UnavailableDataError when it is not prepared, prepared in a format that
      needs TensorFlow, or damaged.
    """
    folder = find(name, data_dir)
    cache = folder / CACHE_NAME
    arrays = read_cache(cache)
    if arrays is None:
        logging.info("Reading the records of %s once into %s", name, cache)
        if folder.name == WITHOUT_RECORDS:
            raise UnavailableDataError(
                f"{cache} is damaged. Remove it and prepare {name!r} again, "
                f"{how_to_prepare(name, data_dir)}."
            )
        arrays = _read(name, folder, data_dir, read_arrays)
        write_cache(cache, arrays)
    mean, std = channel_statistics(arrays["train_images"])
    names = tuple(str(name) for name in arrays.pop("class_names"))
    return Dataset(**arrays, class_names=names, mean=mean, std=std, scale=1 / 255)


def root(data_dir: str | os.PathLike | None) -> Path:
    """The data directory: the one given, $TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(data_dir or default).expanduser()


def find(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """The folder of the newest prepared version, <data_dir>/<name>/<version>; else what
    was prepared without TensorFlow.
    """
    folder = root(data_dir) / name
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in folder.glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    if not versions and (folder / WITHOUT_RECORDS / CACHE_NAME).exists():
        return folder / WITHOUT_RECORDS
    if not versions:
        raise UnavailableDataError(
            f"Data set {name!r} is not prepared in {root(data_dir)}. Prepare it once, "
            f"{how_to_prepare(name, data_dir)}."
        )
    return versions[max(versions)]


def how_to_prepare(name: str, data_dir: str | os.PathLike | None = None) -> str:
    """The commands that prepare a data set, as they are typed."""
    if name not in NAMES:
        place = f", data_dir={str(root(data_dir))!r}" if data_dir else ""
        return (
            "in an environment that has TensorFlow, with `import tensorflow_datasets "
            f"as tfds; tfds.builder({name!r}, file_format={FORMAT!r}{place})"
            ".download_and_prepare()`"
        )
    option = f"--data_dir={root(data_dir)}" if data_dir else ""
    make = f"make data NAME={name}" + (f" ARGS={option}" if option else "")
    python = f"python -m sam_jax.data.prepare {name} {option}".rstrip()
    return (
        f"in a clone of sam_jax with `{make}`, or in an environment that has "
        f"TensorFlow (`pip install '.[prepare]'`) with `{python}`"
    )


def read_arrays(folder: Path) -> Arrays:
    """Decodes every record of both splits into arrays, sorted.

    Returns: the fields of Dataset from train_images to class_names.
    """
    extras.require(f"Reading {folder}", "data")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    arrays: Arrays = {}
    for split in ("train", "test"):
        records = builder.as_data_source(split)
        images, labels = sort_records(list(records))
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays | {"class_names": np.array(builder.info.features["label"].names)}


def sort_records(
    records: Sequence[Mapping[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
    """Stacks records in the order of their ids, or else of their contents.

    Returns: images uint8[N, height, width, channels], labels i32[N].
    """
    images = np.stack([record["image"] for record in records])
    labels = np.array([record["label"] for record in records], np.int32)
    if "id" not in records[0]:
        return sort_by_content(images, labels)
    ids = [record["id"] for record in records]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return images[order], labels[order]


def sort_by_content(
    images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the order of the SHA-256 of each label with its pixels."""
    keys = [_digest(*pair) for pair in zip(images, labels, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images[order], labels[order]


def read_cache(path: Path) -> Arrays | None:
    """The cached arrays; None if there are none, or (with a warning) damaged ones."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
        if set(arrays) != FIELDS:
            raise ValueError(f"it holds {sorted(arrays)}")
    # The checksums of a .npz, a zip archive, betray any other damage.
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        logging.warning("Cannot use the cache %s (%s); making it again.", path, error)
        return None
    return arrays


def write_cache(path: Path, arrays: Arrays) -> None:
    """Writes the arrays all or not at all; a full or read-only disk costs a warning."""
    named: Mapping[str, Any] = arrays
    try:
        output.write_atomic(path, lambda file: np.savez(file, **named))
    except OSError as error:
        logging.warning(
            "Cannot keep the decoded images in %s (%s); the next run decodes again.",
            path,
            error,
        )


def open_records(
    name: str, data_dir: str | os.PathLike | None, folder: Path
) -> tuple[Any, Any, tuple[str, ...]]:
    """Training and test records of a prepared set by number, and its class names.

    ImageNet's labelled test images are its split "validation".

    Raises: UnavailableDataError as `load`.
    """

    def opened(folder: Path) -> tuple[Any, Any, tuple[str, ...]]:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(folder)
        splits = builder.info.splits
        test = "validation" if name.startswith("imagenet") else "test"
        if test not in splits:
            raise ValueError(f"it has the splits {', '.join(splits)}, and no {test}")
        train, test = (builder.as_data_source(split) for split in ("train", test))
        return train, test, tuple(builder.info.features["label"].names)

    return _read(name, folder, data_dir, opened)


def load_text(
    name: str, data_dir: str | os.PathLike | None = None
) -> dict[str, list[bytes]]:
    """The texts of a prepared TFDS data set, {"train": ..., "test": ...}, each in the
    order of the SHA-256 of its texts.

    Args:
      name: one of TEXTS.

    Raises: UnavailableDataError as `load`.
    """
    folder = find(name, data_dir)
    return _read(name, folder, data_dir, read_texts)


def read_texts(folder: Path) -> dict[str, list[bytes]]:
    """Every text of both splits, in UTF-8."""
    extras.require(f"Reading {folder}", "data")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return {
        split: sorted(
            (bytes(record["text"]) for record in builder.as_data_source(split)),
            key=lambda text: hashlib.sha256(text).digest(),
        )
        for split in ("train", "test")
    }


def _read(
    name: str,
    folder: Path,
    data_dir: str | os.PathLike | None,
    read: Callable[[Path], Any],
) -> Any:
    """What `read` makes of a folder; UnavailableDataError where it cannot."""
    try:
        return read(folder)
    except NotImplementedError as error:
        other = root(data_dir) / FORMAT
        raise UnavailableDataError(
            f"Data set {name!r} in {folder} is not in the format {FORMAT}, which alone "
            f"is read without TensorFlow. Prepare it once more in another directory, "
            f"{how_to_prepare(name, other)}, and load it from there with "
            f"`export TFDS_DATA_DIR={other}`."
        ) from error
    # Damaged records fail in the reader, the protocol buffers or the PNG decoder, each
    # with errors of its own.
    except Exception as error:
        raise UnavailableDataError(
            f"Data set {name!r} in {folder} is damaged ({type(error).__name__}: "
            f"{error}). Remove it with `rm -r {folder}` and prepare it again, "
            f"{how_to_prepare(name, data_dir)}."
        ) from error


def _digest(image: np.ndarray, label: np.int32) -> bytes:
    return hashlib.sha256(bytes([label]) + image.tobytes()).digest()
