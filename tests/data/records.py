"""Small TFDS data sets, written as real array_record files without TensorFlow.

TFDS encodes arrays as PNG with TensorFlow, but takes ready PNG files as they are.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def png(image):
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        file, "PNG"
    )
    file.seek(0)
    return file


def make_builder(
    name, splits, class_names, data_dir, *, channels, ids, version="3.0.2"
):
    """A TFDS builder of this name.

    splits: name -> (images uint8[N, H, W, C], labels), or a function of the download
      manager that gives them. ids: whether records have the feature `id`, as CIFAR's.
    """
    release = version

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(release)

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(4, 4, channels)),
                "label": tfds.features.ClassLabel(names=class_names),
            } | ({"id": tfds.features.Text()} if ids else {})
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            arrays = splits(dl_manager) if callable(splits) else splits
            return {
                split: self._generate_examples(split, *arrays[split])
                for split in arrays
            }

        def _generate_examples(self, split, images, labels):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                record = {"image": png(image), "label": int(label)}
                yield i, record | ({"id": f"{split}_{i:05d}"} if ids else {})

    Builder.name = name
    return Builder(data_dir=data_dir, file_format="array_record")


def write(name, splits, class_names, data_dir, **options):
    """Writes a data set to disk; returns its folder."""
    builder = make_builder(name, splits, class_names, data_dir, **options)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return builder.data_path


def random_splits(seed, channels, classes, train=40, test=20):
    """Random images of 4x4 pixels, with labels."""
    random = np.random.default_rng(seed)
    return {
        split: (
            random.integers(0, 256, (n, 4, 4, channels), np.uint8),
            random.integers(0, classes, n).astype(np.int32),
        )
        for split, n in (("train", train), ("test", test))
    }
