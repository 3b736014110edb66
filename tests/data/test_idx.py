"""IDX files as their authors' description has them: written here by hand."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest

from sam_jax import data
from sam_jax.data import idx, prepare, tfds_source

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "train_images": RANDOM.integers(0, 256, (20, 6, 6), np.uint8),
    "train_labels": np.repeat(np.arange(10, dtype=np.uint8), 2),
    "test_images": RANDOM.integers(0, 256, (10, 6, 6), np.uint8),
    "test_labels": np.arange(10, dtype=np.uint8),
}


def content(array):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """The four files, some of them compressed."""
    place = tmp_path / "files"
    place.mkdir()
    for field, (name, _) in idx.FILES.items():
        written = content(ARRAYS[field])
        if "images" in field:
            (place / f"{name}.gz").write_bytes(gzip.compress(written))
        else:
            (place / name).write_bytes(written)
    return place


def ready(folder, tmp_path, **options):
    return prepare.prepare(
        "fashion_mnist", data_dir=tmp_path / "data", source_dir=folder, **options
    )


def test_files_are_read_without_tensorflow_in_the_order_of_tfds(folder, tmp_path):
    received = ready(folder, tmp_path, other_files=True)
    for split in ("train", "test"):
        images, labels = ARRAYS[f"{split}_images"], ARRAYS[f"{split}_labels"]
        records = [
            {"image": image[..., None], "label": label}
            for image, label in zip(images, labels, strict=True)
        ]
        expected = tfds_source.sort_records(records)
        np.testing.assert_array_equal(getattr(received, f"{split}_images"), expected[0])
        np.testing.assert_array_equal(getattr(received, f"{split}_labels"), expected[1])
    assert received.class_names[2:5:2] == ("Pullover", "Coat")
    assert received.train_labels.dtype == np.int32
    again = data.load("fashion_mnist", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(again.train_images, received.train_images)


def damage_nothing(folder):
    return "is not the file that its authors published .*--other_files"


def lose_a_file(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    return "lacks t10k-labels-idx1-ubyte"


def cut_a_compressed_file(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:200])
    return "train-images-idx3-ubyte.gz cannot be read"


def spoil_a_compressed_file(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    spoilt = bytearray(path.read_bytes())
    spoilt[300:310] = bytes(10)
    path.write_bytes(bytes(spoilt))
    return "train-images-idx3-ubyte.gz cannot be read"


def cut_a_file(folder):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return r"holds 19 bytes where its header says \(20,\)"


def write_floats(folder):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(bytes([0, 0, 13, 1, 0, 0, 0, 0]))
    return "no IDX file of bytes"


def empty_a_file(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(b"")
    return "no IDX file of bytes"


def exchange_splits(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(content(ARRAYS["test_labels"]))
    return r"images of shape \(20, 6, 6\) and labels of shape \(10,\)"


def write_another_class(folder):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(
        content(np.full(10, 10, dtype=np.uint8))
    )
    return "up to 10"


@pytest.mark.parametrize(
    "damage",
    [
        *(damage_nothing, lose_a_file, cut_a_compressed_file, spoil_a_compressed_file),
        *(cut_a_file, write_floats, empty_a_file, exchange_splits, write_another_class),
    ],
)
def test_missing_and_damaged_files_are_named_and_nothing_is_written(
    folder, tmp_path, damage
):
    message = damage(folder)
    with pytest.raises(data.UnavailableDataError, match=message) as caught:
        ready(folder, tmp_path, other_files=damage is not damage_nothing)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_damaged_copy_says_how_to_prepare_it_again(folder, tmp_path):
    ready(folder, tmp_path, other_files=True)
    (copy,) = (tmp_path / "data").rglob("*.npz")
    copy.write_bytes(b"damage")
    with pytest.raises(data.UnavailableDataError, match="Remove it and prepare"):
        data.load("fashion_mnist", data_dir=tmp_path / "data")


def test_only_a_lack_of_tensorflow_has_the_status_that_make_waits_for(folder, tmp_path):
    command = [sys.executable, "-m", "sam_jax.data.prepare", f"--data_dir={tmp_path}"]
    outcomes = [
        (["mnist"], prepare.NEEDS_TENSORFLOW),
        (["fashion_mnist", f"--source_dir={folder}"], 1),
        (["fashion_mnist", f"--source_dir={folder}", "--other_files"], 0),
    ]
    for arguments, status in outcomes:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert done.stderr.count("error: ") == (status > 0)
