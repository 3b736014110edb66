"""Reading of TFDS data sets, from real records on disk and without TensorFlow."""

import collections
import hashlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from sam_jax import data
from sam_jax.data import tfds_source
from tests.data import records

CIFAR_NAMES = ["airplane", "automobile", "bird"]


class NoTensorFlow:
    """Makes the import of TensorFlow fail, even where it is installed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'")


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow, *sys.meta_path])


@pytest.fixture(scope="module")
def cifar_written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    splits = records.random_splits(0, channels=3, classes=3)
    records.write("cifar10", splits, CIFAR_NAMES, directory, channels=3, ids=True)
    return directory, splits


@pytest.fixture
def cifar(cifar_written, tmp_path):
    """(data directory, folder of the version, what was written): a copy to damage."""
    directory, splits = cifar_written
    shutil.copytree(directory, tmp_path / "data")
    return tmp_path / "data", tmp_path / "data" / "cifar10" / "3.0.2", splits


def assert_equal(dataset, splits):
    np.testing.assert_array_equal(dataset.train_images, splits["train"][0])
    np.testing.assert_array_equal(dataset.train_labels, splits["train"][1])
    np.testing.assert_array_equal(dataset.test_images, splits["test"][0])
    np.testing.assert_array_equal(dataset.test_labels, splits["test"][1])


def test_records_with_ids_come_back_in_the_order_of_the_source_files(cifar):
    directory, folder, splits = cifar
    on_disk = tfds.builder_from_directory(folder).as_data_source("train")
    shuffled = np.array([record["label"] for record in on_disk])
    assert (shuffled != splits["train"][1]).any(), "the test needs shuffled records"

    dataset = data.load("cifar10", data_dir=directory)
    assert_equal(dataset, splits)
    assert dataset.class_names == tuple(CIFAR_NAMES)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int32
    assert dataset.scale * 255 == 1
    flat = splits["train"][0].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(dataset.mean, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(dataset.std, flat.std(0), rtol=1e-6)


def test_records_without_ids_come_in_an_order_of_their_contents_alone(tmp_path):
    splits = records.random_splits(1, channels=1, classes=3)
    reversed_splits = {k: (x[::-1], y[::-1]) for k, (x, y) in splits.items()}
    loaded = []
    for place, arrays in (("a", splits), ("b", reversed_splits)):
        records.write(
            "mnist", arrays, ["0", "1", "2"], tmp_path / place, channels=1, ids=False
        )
        loaded.append(data.load("mnist", data_dir=tmp_path / place))
    np.testing.assert_array_equal(loaded[0].train_images, loaded[1].train_images)
    np.testing.assert_array_equal(loaded[0].train_labels, loaded[1].train_labels)

    examples = [bytes([y]) + x.tobytes() for x, y in zip(*splits["train"], strict=True)]
    expected = sorted(examples, key=lambda e: hashlib.sha256(e).digest())
    received = [
        bytes([y]) + x.tobytes()
        for x, y in zip(loaded[0].train_images, loaded[0].train_labels, strict=True)
    ]
    assert received == expected
    assert collections.Counter(received) == collections.Counter(examples)


def test_two_classes_by_name(cifar):
    directory, _, splits = cifar
    images, labels = splits["train"]
    dataset = data.load("cifar10", classes=("bird", "airplane"), data_dir=directory)
    kept = labels != 1
    np.testing.assert_array_equal(dataset.train_images, images[kept])
    np.testing.assert_array_equal(dataset.train_labels, (labels[kept] == 0).astype(int))
    assert dataset.class_names == ("bird", "airplane")
    whole = data.load("cifar10", data_dir=directory)
    np.testing.assert_array_equal(dataset.mean, whole.mean)


def test_the_newest_version_is_read(cifar):
    directory, folder, _ = cifar
    newer = records.random_splits(2, channels=3, classes=3)
    records.write(
        "cifar10", newer, CIFAR_NAMES, directory, channels=3, ids=True, version="3.0.10"
    )
    shutil.copytree(folder, folder.with_name("9.0.0.old"))
    assert tfds_source.find("cifar10", directory) == folder.with_name("3.0.10")
    assert_equal(data.load("cifar10", data_dir=directory), newer)


def test_the_data_directory_of_tfds_is_the_default(cifar, monkeypatch):
    directory, _, splits = cifar
    monkeypatch.setenv("TFDS_DATA_DIR", str(directory))
    assert_equal(data.load("cifar10"), splits)


def test_the_second_load_reads_the_cache_alone(cifar):
    directory, folder, splits = cifar
    data.load("cifar10", data_dir=directory)
    for file in folder.glob("*array_record*"):
        file.unlink()
    assert_equal(data.load("cifar10", data_dir=directory), splits)


def truncate(cache):
    cache.write_bytes(cache.read_bytes()[:1000])


def empty(cache):
    cache.write_bytes(b"")


def flip_a_pixel(cache):
    content = bytearray(cache.read_bytes())
    content[700] ^= 1
    cache.write_bytes(bytes(content))


def other_arrays(cache):
    np.savez(cache, train_images=np.zeros((2, 4, 4, 3), np.uint8))


def pickled_objects(cache):
    with np.load(cache) as saved:
        arrays = dict(saved)
    np.savez(cache, **arrays | {"class_names": np.array([{}, {}], object)})


@pytest.mark.parametrize(
    "damage", [truncate, empty, flip_a_pixel, other_arrays, pickled_objects]
)
def test_a_damaged_cache_is_made_again(cifar, damage):
    directory, folder, splits = cifar
    cache = folder / tfds_source.CACHE_NAME
    data.load("cifar10", data_dir=directory)
    intact = cache.read_bytes()
    damage(cache)
    assert cache.read_bytes() != intact
    assert tfds_source.read_cache(cache) is None
    assert_equal(data.load("cifar10", data_dir=directory), splits)
    assert tfds_source.read_cache(cache) is not None


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_no_cache(cifar, monkeypatch, error):
    directory, folder, splits = cifar
    before = set(folder.iterdir())

    def half(file, **arrays):
        file.write(b"half a file")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        if isinstance(error, OSError):
            assert_equal(data.load("cifar10", data_dir=directory), splits)
        else:
            with pytest.raises(KeyboardInterrupt):
                data.load("cifar10", data_dir=directory)
    assert set(folder.iterdir()) == before


def test_what_is_not_prepared_names_the_commands(tmp_path, monkeypatch):
    with pytest.raises(data.UnavailableDataError) as caught:
        data.load("cifar100", data_dir=tmp_path)
    assert f"`make data NAME=cifar100 ARGS=--data_dir={tmp_path}`" in str(caught.value)
    assert "`pip install '.[prepare]'`" in str(caught.value)
    assert f"`python -m sam_jax.data.prepare cifar100 --data_dir={tmp_path}`" in str(
        caught.value
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"`make data NAME=mnist`, .*prepare mnist`"):
        data.load("mnist")


def test_an_unfinished_preparation_is_none(cifar):
    directory, folder, _ = cifar
    folder.rename(folder.with_name("incomplete.ABC_3.0.2"))
    with pytest.raises(data.UnavailableDataError, match="is not prepared"):
        data.load("cifar10", data_dir=directory)


def test_records_that_need_tensorflow_are_refused(cifar):
    directory, folder, _ = cifar
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    other = directory / "array_record"
    with pytest.raises(
        data.UnavailableDataError,
        match=f"not in the format array_record.*ARGS=--data_dir={other}`.*"
        f"`export TFDS_DATA_DIR={other}`",
    ):
        data.load("cifar10", data_dir=directory)


def test_damaged_records_say_how_to_prepare_them_again(cifar):
    directory, folder, _ = cifar
    (file,) = folder.glob("*train.array_record*")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(
        data.UnavailableDataError, match=f"damaged .*`rm -r {folder}`.*make data"
    ):
        data.load("cifar10", data_dir=directory)
