"""From a configuration to examples that are read while a run goes on."""

import numpy as np

from sam_jax import data
from sam_jax.data import records
from sam_jax.training import loading
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.feeds import Streamed


def load_examples(
    config: Config, dataset: data.Dataset | None = None
) -> tuple[Streamed, dict[str, np.ndarray], int]:
    """What `loading.load_examples` returns, of records that are read during the run.

    There are no parts train_clean and train_noisy: labels are known once they are read.

    Raises: ConfigError for what needs all examples in memory.
    """
    settings, attack = config.data, config.attack
    if dataset is not None:
        raise ConfigError(
            "Received data.feed='stream' with a data set that is in memory already; "
            "set data.feed='memory', or name a data set that TFDS has prepared."
        )
    if config.parallel.kind == "sharded":
        raise ConfigError(
            "Received data.feed='stream' with parallel.kind='sharded', whose processes "
            "do not read parts of a batch; set parallel.kind='pmap', or "
            "data.feed='memory'."
        )
    if settings.classes or settings.train_examples or attack.eval_steps:
        raise ConfigError(
            f"Received data.classes={settings.classes!r}, data.train_examples="
            f"{settings.train_examples}, attack.eval_steps={attack.eval_steps} with "
            "data.feed='stream', which reads records as they are; set (), 0 and 0, or "
            "data.feed='memory'."
        )
    found = records.load(settings.name, size=settings.resize)
    return streamed(config, found)


def streamed(
    config: Config, found: records.Records
) -> tuple[Streamed, dict[str, np.ndarray], int]:
    """Any records as the examples of a run, as `load_examples`."""
    count, num_classes = len(found.train), len(found.class_names)
    settings = config.data.noise
    noise = data.draw_label_noise(
        config.seed,
        count,
        settings.fraction,
        num_classes,
        kind=settings.kind,
        exclude_true=settings.exclude_true,
        mapping=settings.mapping or None,
    )
    train, validation = data.split_validation(
        config.seed, count, config.data.validation_fraction
    )
    parts = {
        "train": train,
        "validation": validation,
        "test": count + np.arange(len(found.test)),
    }
    return Streamed(found, noise, loading.param_dtype(config)), parts, num_classes
