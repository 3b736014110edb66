"""Fashion-MNIST from the four files of its authors, without TensorFlow.

An IDX file (LeCun et al., for MNIST) holds two zero bytes, the type of its entries (8
for bytes), the number of axes, their sizes as big-endian integers of four bytes, and
the entries. Xiao et al. (2017, arXiv:1708.07747) published the images in this form; on
Debian they are in the package dataset-fashion-mnist.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from sam_jax.data.dataset import UnavailableDataError

# Data sets that come in this form -> where Debian puts them.
FOLDERS = {"fashion_mnist": "/usr/share/datasets/fashion-mnist"}
# Field of Dataset -> file, its SHA-256 when uncompressed.
FILES = {
    "train_images": (
        "train-images-idx3-ubyte",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train_labels": (
        "train-labels-idx1-ubyte",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test_images": (
        "t10k-images-idx3-ubyte",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "test_labels": (
        "t10k-labels-idx1-ubyte",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
BYTES = 8  # the code of the type


def find(name: str, folder: str | os.PathLike | None = None) -> Path | None:
    """The folder that holds the files of a data set; None if there is none.

    Args:
      folder: where to look; default Debian's own.
    """
    if name not in FOLDERS:
        return None
    place = Path(folder or FOLDERS[name]).expanduser()
    found = [path for file, _ in FILES.values() if (path := _path(place, file))]
    return place if found else None


def read(folder: Path, other_files: bool = False) -> dict[str, np.ndarray]:
    """The images and labels of both splits, in the order of the files.

    Args:
      folder: with the four files, compressed by gzip or not.
      other_files: whether other contents than the authors' are taken.

    Returns: the fields of Dataset from train_images (u8[N, height, width, 1]) to
      class_names.
    Raises: UnavailableDataError for a file that is missing, damaged or another.
    """
    arrays = {}
    for field, (file, digest) in FILES.items():
        path = _path(folder, file)
        if path is None:
            raise UnavailableDataError(
                f"The folder {folder} lacks {file} (or {file}.gz); it is to hold "
                f"{', '.join(name for name, _ in FILES.values())}."
            )
        content = _content(path)
        received = hashlib.sha256(content).hexdigest()
        if received != digest and not other_files:
            raise UnavailableDataError(
                f"{path} is not the file that its authors published (SHA-256 of its "
                f"content {received[:12]}, not {digest[:12]}); fetch it again, or take "
                "it as it is with --other_files."
            )
        arrays[field] = _parse(path, content)
    _check(folder, arrays)
    for split in ("train", "test"):
        arrays[f"{split}_images"] = arrays[f"{split}_images"][..., None]
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"].astype(np.int32)
    return arrays | {"class_names": np.array(CLASS_NAMES)}


def _path(folder: Path, file: str) -> Path | None:
    """A file, compressed or not; None if it is not there."""
    for path in (folder / f"{file}.gz", folder / file):
        if path.is_file():
            return path
    return None


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UnavailableDataError(
            f"{path} cannot be read ({error}); fetch it again."
        ) from None


def _parse(path: Path, content: bytes) -> np.ndarray:
    """The array of an IDX file of bytes."""
    kind, axes = (content[2], content[3]) if content[:2] == b"\0\0" else (0, 0)
    start = 4 + 4 * axes
    if kind != BYTES or len(content) < start:
        raise UnavailableDataError(f"{path} is no IDX file of bytes; fetch it again.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UnavailableDataError(
            f"{path} holds {len(content) - start} bytes where its header says {shape}; "
            "fetch it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """That images and labels belong together."""
    for split in ("train", "test"):
        images, labels = (arrays[f"{split}_{part}"] for part in ("images", "labels"))
        fits = images.ndim == 3 and labels.shape == images.shape[:1] and len(labels)
        if not fits or labels.max() >= len(CLASS_NAMES):
            raise UnavailableDataError(
                f"The {split} files in {folder} hold images of shape {images.shape} "
                f"and labels of shape {labels.shape} up to {labels.max(initial=0)}; "
                f"wanted are [N, height, width] and [N] below {len(CLASS_NAMES)}."
            )
