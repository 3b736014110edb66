"""Preparation of TFDS data sets, from the command line down to the records."""

import gzip
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import app

from sam_jax import data
from sam_jax.data import prepare, tfds_source
from tests.data import records

URL = "https://example.org/images.bin.gz"


def test_without_tensorflow_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        data.UnavailableDataError,
        match=r"TensorFlow.*`pip install '\.\[prepare\]'`.*`make data NAME=mnist`",
    ):
        prepare.prepare("mnist", data_dir=tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'imagenet'; known: cifar10, cifar100, mnist"):
        prepare.prepare("imagenet", data_dir=tmp_path)


def test_the_command_ends_with_one_clear_line():
    command = [sys.executable, "-m", "sam_jax.data.prepare", "imagenet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Unknown TFDS data set 'imagenet'; known: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("names", [[], ["cifar10", "mnist"]])
def test_the_command_takes_one_name(names):
    with pytest.raises(app.UsageError, match="give the name of one data set: cifar10"):
        prepare.main(["prepare", *names])


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """A data set named mnist, made from one file: (source folder, its arrays)."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    source = tmp_path / "source"
    source.mkdir()
    splits = records.random_splits(3, channels=1, classes=2, train=4, test=4)
    images = np.concatenate([splits["train"][0], splits["test"][0]])
    (source / "images.bin.gz").write_bytes(gzip.compress(images.tobytes()))

    def read(manager):
        content = gzip.decompress(manager.download(URL).read_bytes())
        pixels = np.frombuffer(content, np.uint8).reshape(-1, 4, 4, 1)
        return {
            "train": (pixels[:4], splits["train"][1]),
            "test": (pixels[4:], splits["test"][1]),
        }

    register = {URL: tfds.download.checksums.UrlInfo(7, "0" * 64, "images.bin.gz")}

    def builder(name, data_dir, file_format):
        assert (name, file_format) == ("mnist", "array_record")
        made = records.make_builder(
            name, read, ["0", "1"], data_dir, channels=1, ids=False
        )
        type(made).url_infos = register
        return made

    monkeypatch.setattr(tfds, "builder", builder)
    return source, splits


def prepare_from(source, tmp_path, other_files=True):
    return prepare.prepare(
        "mnist",
        data_dir=tmp_path / "data",
        source_dir=source,
        other_files=other_files,
    )


def test_files_that_tfds_does_not_know_are_refused_unless_asked_for(
    downloaded, tmp_path
):
    source, _ = downloaded
    with pytest.raises(data.UnavailableDataError, match=r"not 0000.*--other_files"):
        prepare_from(source, tmp_path, other_files=False)
    assert not (tmp_path / "data" / "mnist").exists()


def test_files_at_hand_stand_in_for_the_download(downloaded, tmp_path):
    source, splits = downloaded
    dataset = prepare_from(source, tmp_path)
    received = {x.tobytes() for x in dataset.train_images}
    assert received == {x.tobytes() for x in splits["train"][0]}
    again = data.load("mnist", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(again.test_images, dataset.test_images)


def test_what_is_prepared_is_not_prepared_again(downloaded, tmp_path, monkeypatch):
    source, _ = downloaded
    first = prepare_from(source, tmp_path)
    monkeypatch.setattr(tfds, "builder", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    second = prepare.prepare("mnist", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(first.train_images, second.train_images)


def test_the_remains_of_a_data_set_are_no_data_set(downloaded, tmp_path):
    source, _ = downloaded
    folder = tmp_path / "data" / "mnist" / "3.0.2"
    folder.mkdir(parents=True)
    with pytest.raises(data.UnavailableDataError, match=f"`rm -r {folder}`"):
        prepare_from(source, tmp_path)


def test_a_missing_file_is_named(downloaded, tmp_path):
    source, _ = downloaded
    (source / "images.bin.gz").unlink()
    with pytest.raises(data.UnavailableDataError, match=r"lacks images\.bin\.gz"):
        prepare_from(source, tmp_path)


def test_a_failed_preparation_says_what_to_fetch(downloaded, tmp_path):
    source, _ = downloaded
    (source / "images.bin.gz").write_bytes(b"no gzip file")
    with pytest.raises(
        data.UnavailableDataError,
        match=f"(?s)'mnist' failed: BadGzipFile.*--source_dir=FOLDER:\n  {URL}",
    ):
        prepare_from(source, tmp_path)
    with pytest.raises(data.UnavailableDataError, match="is not prepared"):
        data.load("mnist", data_dir=tmp_path / "data")


@pytest.mark.parametrize("name", ["", "cifar99"])
def test_make_data_checks_the_name_before_it_installs_anything(name):
    made = subprocess.run(
        ["make", "data", f"NAME={name}", f"PYTHON={sys.executable}"],
        cwd=pathlib.Path(__file__).parents[2],
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 2
    said, end = made.stderr.splitlines()
    assert said == (
        f"make data NAME={name}: give one of {', '.join(tfds_source.NAMES)}"
    )
    assert end.startswith("make: *** ")
