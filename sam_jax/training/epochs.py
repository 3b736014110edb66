"""What an epoch is made of: its batches, which of its steps ascend, and its record."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sam_jax import data
from sam_jax.training import consistency, feeds
from sam_jax.training.configuration import Config
from sam_jax.training.examples import Examples
from sam_jax.training.setup import Setup


def batches(
    config: Config, setup: Setup, epoch: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """An epoch's batches of indices, a function of seed and epoch alone.

    For a variant that ascends on a batch of its own each comes with one, from an order
    of its own.
    """

    def order(**options: bool) -> np.ndarray:
        count, size = len(setup.train), config.batch_size
        chosen = data.epoch_batches(config.seed, epoch, count, size, **options)
        return setup.train[chosen].astype(np.int32)

    streams = [order()]
    if consistency.ascends_on_own_batch(config.sam.kind):
        streams.append(order(to_ascend_on=True))
    for batch in zip(*streams, strict=True):
        yield tuple(setup.layout.split(indices) for indices in batch)


def feed(
    config: Config, setup: Setup, epoch: int, start: int = 0
) -> Iterator[tuple[Examples, tuple[np.ndarray, ...]]]:
    """What the steps of an epoch take, from its step `start` on: examples, on the
    devices or to be put there, and each batch's places among them.
    """
    left = itertools.islice(batches(config, setup, epoch), start, None)
    return feeds.feed(setup.examples, left)


def uses_ascent(settings: Config, epoch: int, step: int) -> bool:
    """Whether a step ascends before it descends.

    Chosen here, in Python, between two compiled steps (why: see `sam_jax.ops.loops`).

    Args:
      settings: config.sam.
      epoch, step: counted from 0 over the whole run.
    """
    stop = settings.stop_epoch or math.inf
    active = settings.kind != "erm" and settings.start_epoch <= epoch < stop
    return active and step % settings.every == 0


def record(
    config: Config, setup: Setup, epoch: int, measured: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """An epoch's record, from what each of its steps has measured.

    running_loss and running_error are means over the steps, on augmented images.
    """
    steps = setup.epoch_steps
    last = (epoch + 1) * steps - 1
    ascended = setup.ascent_step is not None and any(
        uses_ascent(config.sam, epoch, step) for step in range(epoch * steps, last + 1)
    )
    given = jax.tree.map(lambda values: values[last], setup.coefficients)
    means = {
        name: float(np.mean([row[name] for row in measured], dtype=float))
        for name in measured[0]
    }
    return {
        "epoch": epoch + 1,
        "step": last + 1,
        "learning_rate": float(given.learning_rate),
        "rho": float(given.rho) if ascended else 0.0,
        "running_loss": means["loss"],
        "running_error": means["error"],
        "gradient_norm": means["gradient_norm"],
        "ascent_norm": means["ascent_norm"],
    }
