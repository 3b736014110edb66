"""Real images, and the true builders of TFDS: heavy, `make test-heavy`.

Fashion-MNIST is on Debian in the package dataset-fashion-mnist, and is read from there
as well as through TFDS, where TensorFlow is installed.
"""

import collections
import gzip
import importlib.util
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sam_jax import data
from sam_jax.data import idx, prepare

pytestmark = pytest.mark.heavy

SOURCE = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="needs TensorFlow")
needs_originals = pytest.mark.skipif(
    not SOURCE.exists(), reason=f"no original files in {SOURCE}"
)


@pytest.fixture(
    scope="module", params=["files", pytest.param("TFDS", marks=needs_tensorflow)]
)
def data_dir(request, tmp_path_factory):
    """Where Fashion-MNIST is prepared."""
    if not SOURCE.exists():
        pytest.skip(f"no original files in {SOURCE}")
    directory = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        through_tfds = request.param == "TFDS"
        if through_tfds:
            patch.setattr(idx, "FOLDERS", {})
        prepare.prepare(
            "fashion_mnist",
            data_dir=directory,
            source_dir=SOURCE,
            other_files=through_tfds,  # Debian's are compressed again
        )
    return directory


def read_idx(folder, prefix):
    """The images and labels of a split, from the original files alone."""
    images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


def counted(images, labels):
    """How often each example occurs."""
    return collections.Counter(
        (int(label), image.tobytes())
        for image, label in zip(images, labels, strict=True)
    )


def test_fashion_mnist_has_all_70_000_images(data_dir):
    fashion = data.load("fashion_mnist", data_dir=data_dir)
    assert fashion.train_images.shape == (60_000, 28, 28, 1)
    assert fashion.test_images.shape == (10_000, 28, 28, 1)
    assert fashion.train_images.dtype == fashion.test_images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(fashion.train_labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(fashion.test_labels), [1000] * 10)
    assert fashion.class_names[:3] == ("T-shirt/top", "Trouser", "Pullover")
    # The mean and deviation that the literature normalises with.
    np.testing.assert_allclose(fashion.mean * fashion.scale, [0.2860], atol=1e-4)
    np.testing.assert_allclose(fashion.std * fashion.scale, [0.3530], atol=1e-4)


@needs_originals
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_fashion_mnist_is_the_original_byte_for_byte(data_dir, split, prefix):
    fashion = data.load("fashion_mnist", data_dir=data_dir)
    received = counted(
        getattr(fashion, f"{split}_images"), getattr(fashion, f"{split}_labels")
    )
    assert received == counted(*read_idx(SOURCE, prefix))


@needs_tensorflow
@needs_originals
def test_mnist_beside_fashion_mnist_gets_its_own_images(data_dir, tmp_path):
    """The files of both sets have the same names; these differ in one pixel each."""
    source = tmp_path / "mnist"
    shutil.copytree(SOURCE, source)
    for prefix in ("train", "t10k"):
        file = source / f"{prefix}-images-idx3-ubyte.gz"
        content = bytearray(gzip.decompress(file.read_bytes()))
        content[16::784] = bytes([77]) * len(content[16::784])
        file.write_bytes(gzip.compress(bytes(content), 1))
    mnist = prepare.prepare(
        "mnist", data_dir=data_dir, source_dir=source, other_files=True
    )
    assert (mnist.train_images[:, 0, 0, 0] == 77).all()
    assert counted(mnist.test_images, mnist.test_labels) == counted(
        *read_idx(source, "t10k")
    )


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def cifar_records(labels, images):
    """CIFAR's binary format: label bytes, then 1024 red, green and blue pixels."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels, planes], axis=1).astype(np.uint8).tobytes()


def fake_cifar(n, label_columns, seed):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 32, 32, 3), np.uint8)
    return random.integers(0, 10, (n, label_columns)), images


@needs_tensorflow
def test_cifar10_keeps_the_order_and_the_classes_of_its_files(tmp_path):
    names = [f"class {i}" for i in range(10)]
    labels, images = fake_cifar(100, 1, 0)
    test_labels, test_images = fake_cifar(30, 1, 1)
    folder = "cifar-10-batches-bin"
    parts = {
        f"{folder}/data_batch_{i + 1}.bin": cifar_records(
            labels[20 * i : 20 * i + 20], images[20 * i : 20 * i + 20]
        )
        for i in range(5)
    }
    write_tar(
        tmp_path / "cifar-10-binary.tar.gz",
        parts
        | {
            f"{folder}/test_batch.bin": cifar_records(test_labels, test_images),
            f"{folder}/batches.meta.txt": "\n".join(names).encode(),
        },
    )
    cifar = prepare.prepare(
        "cifar10", data_dir=tmp_path, source_dir=tmp_path, other_files=True
    )
    np.testing.assert_array_equal(cifar.train_images, images)
    np.testing.assert_array_equal(cifar.train_labels, labels[:, 0])
    np.testing.assert_array_equal(cifar.test_images, test_images)
    np.testing.assert_array_equal(cifar.test_labels, test_labels[:, 0])
    assert cifar.class_names == tuple(names)


@needs_tensorflow
def test_cifar100_has_the_fine_labels(tmp_path):
    labels, images = fake_cifar(100, 2, 0)
    test_labels, test_images = fake_cifar(30, 2, 1)
    fine = [f"fine {i}" for i in range(100)]
    coarse = [f"coarse {i}" for i in range(20)]
    folder = "cifar-100-binary"
    write_tar(
        tmp_path / "cifar-100-binary.tar.gz",
        {
            f"{folder}/train.bin": cifar_records(labels, images),
            f"{folder}/test.bin": cifar_records(test_labels, test_images),
            f"{folder}/fine_label_names.txt": "\n".join(fine).encode(),
            f"{folder}/coarse_label_names.txt": "\n".join(coarse).encode(),
        },
    )
    cifar = prepare.prepare(
        "cifar100", data_dir=tmp_path, source_dir=tmp_path, other_files=True
    )
    np.testing.assert_array_equal(cifar.train_images, images)
    np.testing.assert_array_equal(cifar.train_labels, labels[:, 1])
    np.testing.assert_array_equal(cifar.test_images, test_images)
    assert cifar.class_names == tuple(fine)
