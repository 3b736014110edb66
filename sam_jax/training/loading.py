"""From a configuration to its examples: data with noisy labels, in parts."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from sam_jax import data
from sam_jax.data.streams import Purpose
from sam_jax.training import own
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.examples import Examples


def load_examples(
    config: Config, dataset: data.Dataset | None = None
) -> tuple[Examples, dict[str, np.ndarray], int]:
    """The data set with noisy labels, on the host.

    A subset is taken before the noise, and noise comes before the split: validation
    labels are as noisy as those trained on. Of text whole documents validate, and no
    labels are noisy.

    Args:
      dataset: given from Python; None for that of config.data.

    Returns: examples; indices into them of the parts train, train_clean, train_noisy,
      validation and test; the number of classes.
    """
    settings = config.data
    source = _load(config, dataset)
    if settings.train_examples:
        source = _subset(config.seed, source, settings.train_examples)
    if source.is_text:
        return _text(config, source)
    noise = settings.noise
    given, changed = data.add_label_noise(
        config.seed,
        source.train_labels,
        noise.fraction,
        source.num_classes,
        kind=noise.kind,
        exclude_true=noise.exclude_true,
        mapping=noise.mapping or None,
    )
    count = len(given)
    train, validation = data.split_validation(
        config.seed, count, settings.validation_fraction
    )
    parts = {
        "train": train,
        "train_clean": train[~changed[train]],
        "train_noisy": train[changed[train]],
        "validation": validation,
        "test": count + np.arange(len(source.test_labels)),
    }
    dtype = param_dtype(config)
    examples = Examples(
        images=np.concatenate([source.train_images, source.test_images]),
        given=np.concatenate([given, source.test_labels]).astype(np.int32),
        true=np.concatenate([source.train_labels, source.test_labels]).astype(np.int32),
        mean=np.asarray(source.mean, dtype),
        std=np.asarray(source.std, dtype),
        scale=np.asarray(source.scale, dtype),
    )
    return examples, parts, source.num_classes


def _load(config: Config, dataset: data.Dataset | None) -> data.Dataset:
    """The data set as it comes, of config.data's classes and size."""
    settings = config.data
    if dataset is not None:
        classes, size = settings.classes or None, settings.resize
        return data.from_source(dataset, own.GIVEN_DATA, classes, size)
    if settings.name == own.GIVEN_DATA:
        raise ConfigError(f"The data set of this run {own.FROM_PYTHON}")
    return data.load(
        settings.name,
        classes=settings.classes or None,
        size=settings.resize,
        length=settings.length,
        path=settings.path,
        options=settings.options.to_dict(),
    )


def _subset(seed: int, source: data.Dataset, size: int) -> data.Dataset:
    """`size` of the training examples; mean and deviation stay those of all."""
    if source.is_text:
        everything = np.arange(len(source.train_labels))
        kept = data.random_subset(seed, everything, size, Purpose.SUBSET)
    else:
        kept = data.balanced_subset(seed, source.train_labels, size)
    documents = source.train_documents
    return source._replace(
        train_images=source.train_images[kept],
        train_labels=source.train_labels[kept],
        train_documents=None if documents is None else documents[kept],
    )


def _text(
    config: Config, source: data.Dataset
) -> tuple[Examples, dict[str, np.ndarray], int]:
    """What `load_examples` returns, of text."""
    settings, attack = config.data, config.attack
    crop, mirror = settings.augment.crop_padding, settings.augment.mirror
    if settings.noise.fraction or crop or mirror:
        raise ConfigError(
            f"Received data.noise.fraction={settings.noise.fraction}, data.augment."
            f"crop_padding={crop}, data.augment.mirror={mirror} with data.name="
            f"{settings.name!r}; text has no labels to replace, and is not augmented: "
            "set them to 0, 0 and False."
        )
    if attack.kind != "none" or attack.eval_steps:
        raise ConfigError(
            f"Received attack.kind={attack.kind!r}, attack.eval_steps="
            f"{attack.eval_steps} with data.name={settings.name!r}; attacks move "
            "pixels, and text has none: set 'none' and 0."
        )
    documents, count = source.train_documents, len(source.train_labels)
    if documents is None:
        documents = np.arange(count)
    train, validation = data.split_documents(
        config.seed, documents, settings.validation_fraction
    )
    parts = {
        "train": train,
        "validation": validation,
        "test": count + np.arange(len(source.test_labels)),
    }
    labels = np.concatenate([source.train_labels, source.test_labels])
    images = np.concatenate([source.train_images, source.test_images])
    return Examples(images, labels, labels, None, None), parts, source.num_classes


def evaluated(config: Config, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The examples that an evaluation takes: config.eval.examples of each part."""
    most = config.eval.examples
    if not most:
        return parts
    return {
        name: data.random_subset(config.seed, part, most, Purpose.EVALUATION)
        for name, part in parts.items()
    }


def param_dtype(config: Config) -> Any:
    """float64 for a float64 network, else float32.

    Raises: ConfigError for float64 while JAX has it switched off.
    """
    if config.model.dtype != "float64":
        return np.float32
    if jnp.result_type(float) != np.float64:
        raise ConfigError(
            "Received model.dtype='float64' while JAX has 64 bits switched off; set "
            "JAX_ENABLE_X64=1 in the environment."
        )
    return np.float64
