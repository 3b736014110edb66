"""Prepares a data set: python -m sam_jax.data.prepare cifar10.

Through TFDS: downloads it, or takes files already downloaded from --source_dir, and
writes it as array_record, which is then read without TensorFlow. This alone needs
TensorFlow. Fashion-MNIST needs none where the files of its authors are, in --source_dir
or where Debian's package dataset-fashion-mnist puts them.

Exit status: 0; 1 for what cannot be had; 3 if TensorFlow alone is missing.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from sam_jax import checks, output
from sam_jax.data import idx, tfds_source
from sam_jax.data.dataset import Dataset, UnavailableDataError

DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "where to; default $TFDS_DATA_DIR or ~/tensorflow_datasets"
)
SOURCE_DIR = flags.DEFINE_string(
    "source_dir", None, "folder with the files already downloaded, for work off-line"
)

OTHER_FILES = flags.DEFINE_bool(
    "other_files", False, "take files of --source_dir whatever their checksums"
)


NEEDS_TENSORFLOW = 3


class NeedsTensorFlowError(UnavailableDataError):
    """Only TensorFlow is missing."""


def prepare(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    other_files: bool = False,
) -> Dataset:
    """Downloads and writes a data set, then reads it as training will.

    A data set that is there already is only read.

    Args:
      name: one of tfds_source.NAMES.
      data_dir: TFDS's data directory; default $TFDS_DATA_DIR or ~/tensorflow_datasets.
      source_dir: folder with the original files under their original names.
      other_files: take them even if they are not the ones that TFDS knows by checksum,
        such as the same ones compressed again.

    Raises: ValueError for an unknown name; UnavailableDataError without TensorFlow,
      without a file, for one of another checksum, or when the download fails.
    """
    checks.choose("TFDS data set", name, dict.fromkeys(tfds_source.NAMES))
    try:
        tfds_source.find(name, data_dir)
    except UnavailableDataError:
        target, files = tfds_source.root(data_dir), idx.find(name, source_dir)
        if files is not None:
            _write_idx(target / name, files, other_files)
        else:
            _require_tensorflow(name)
            _write(name, target, source_dir, other_files)
    return tfds_source.load(name, data_dir)


def _require_tensorflow(name: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise NeedsTensorFlowError(
            f"Preparing {name!r} needs TensorFlow once, and it is not installed here. "
            "Install it with `pip install '.[prepare]'`, or let `make data "
            f"NAME={name}` do the work in an environment of its own."
        )


def _write_idx(folder: Path, files: Path, other_files: bool) -> None:
    """Writes the arrays of IDX files, in the order in which TFDS's are read."""
    arrays = idx.read(files, other_files)
    for split in ("train", "test"):
        names = f"{split}_images", f"{split}_labels"
        ordered = tfds_source.sort_by_content(*(arrays[name] for name in names))
        arrays |= zip(names, ordered, strict=True)
    target = folder / tfds_source.WITHOUT_RECORDS / tfds_source.CACHE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    named: dict[str, Any] = arrays
    output.write_atomic(target, lambda file: np.savez(file, **named))


def _write(
    name: str,
    target: Path,
    source_dir: str | os.PathLike | None,
    other_files: bool,
) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=target, file_format=tfds_source.FORMAT)
    if builder.data_path.exists():
        raise UnavailableDataError(
            f"The folder {builder.data_path} holds a part of a data set; remove it "
            f"with `rm -r {builder.data_path}` and try again."
        )
    urls = "\n  ".join(builder.url_infos)
    source = None if source_dir is None else Path(source_dir).expanduser()
    if source is not None:
        accept_files(builder.url_infos, source, other_files)
    target.mkdir(parents=True, exist_ok=True)
    # Files of one name but of different data sets (MNIST and Fashion-MNIST) would be
    # extracted to one place, and the second set would get the images of the first.
    with tempfile.TemporaryDirectory(dir=target, prefix="extracted-") as scratch:
        config = tfds.download.DownloadConfig(
            extract_dir=scratch, manual_dir=source, try_download_gcs=False
        )
        try:
            builder.download_and_prepare(download_config=config)
        # Downloads fail in as many ways as there are networks.
        except Exception as error:
            raise UnavailableDataError(
                f"Preparing {name!r} failed: {type(error).__name__}: {error}\n"
                "Without a network, fetch these files elsewhere and give "
                f"--source_dir=FOLDER:\n  {urls}"
            ) from error


def accept_files(
    register: dict[str, Any], source: Path, other_files: bool = False
) -> None:
    """Makes TFDS take the files of a folder in place of its downloads.

    TFDS takes a file from its `manual_dir` if name and checksum are the registered
    ones, so the checksums of the files at hand are put into the register.

    Args:
      register: the builder's `url_infos`, URL -> size, checksum and file name; changed
        in place.
      other_files: whether other checksums than the registered ones are taken.
    """
    from tensorflow_datasets.core.download import checksums

    names = [info.filename for info in register.values()]
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise UnavailableDataError(
            f"The folder {source} lacks {', '.join(missing)}; give --source_dir the "
            f"one that holds {', '.join(names)}."
        )
    for url, expected in register.items():
        received = checksums.compute_url_info(source / expected.filename)
        if received != expected and not other_files:
            raise UnavailableDataError(
                f"{source / expected.filename} is not the file that TFDS knows "
                f"(SHA-256 {received.checksum[:12]}, not {expected.checksum[:12]}), or "
                "is compressed in another way; put the original there, or take it as "
                "it is with --other_files."
            )
        register[url] = received


def main(argv: Sequence[str]) -> None:
    """Prepares the data set named on the command line, and says what is there."""
    if len(argv) != 2:
        raise app.UsageError(
            f"Received {' '.join(argv[1:]) or 'no name'}; give the name of one data "
            f"set: {', '.join(tfds_source.NAMES)}."
        )
    name = argv[1]
    try:
        data = prepare(
            name,
            data_dir=DATA_DIR.value,
            source_dir=SOURCE_DIR.value,
            other_files=OTHER_FILES.value,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(NEEDS_TENSORFLOW if isinstance(error, NeedsTensorFlowError) else 1)
    folder = tfds_source.find(name, DATA_DIR.value)
    print(
        f"{name}: {len(data.train_images)} training and {len(data.test_images)} test "
        f"images of shape {data.image_shape}, {data.num_classes} classes, in {folder}"
    )


if __name__ == "__main__":
    app.run(main)
