"""Streams digits to two devices, of one process or of two, for test_feeds.

Arguments: file to write to, folder of the runs; for several processes also coordinator,
process id, process count.
"""

import pathlib
import sys

import jax
import numpy as np
import pytest

from sam_jax import data
from sam_jax.data import records
from sam_jax.training import feeds, loop, parallel, streaming
from tests.training.problems import tiny

NAMES = tuple("0123456789")
SIZES = {"train": 512, "test": 100}
NOISE = 0.4
SETTINGS = {
    "epochs": 1,
    "batch_size": 64,
    "model__name": "mlp",
    "model__widths": (8,),
    "data__feed": "stream",
    "data__noise__fraction": NOISE,
    "data__augment__crop_padding": 1,
    "sam__kind": "sam",
    "sam__m": 16,
}
STOPPED_AT = 3  # after so many steps of seven


def some(split):
    """Some of the digits, with pixels in 0..255 as records have them."""
    source = data.load("digits")
    images = getattr(source, f"{split}_images")[: SIZES[split]] * 15
    return images, getattr(source, f"{split}_labels")[: SIZES[split]]


def digits():
    """The same as records."""

    def split(name):
        pairs = zip(*some(name), strict=True)
        return [{"image": image, "label": int(label)} for image, label in pairs]

    return records.create(split("train"), split("test"), NAMES, version="digits")


def watched():
    """Where the numbers of all examples read from now on are written, with the labels
    that the run is given: two arrays a batch.
    """
    seen = []
    plain = feeds.Streamed._examples

    def examples_of(streamed, read, shapes):
        examples, places = plain(streamed, read, shapes)
        seen.append((read["number"], examples.given.ravel()))
        return examples, places

    feeds.Streamed._examples = examples_of
    return seen


def stopped_and_resumed(folder):
    asked = iter(range(1000))

    def read(requests, shared):
        return loop.SAVE + 1 if next(asked) == STOPPED_AT - 1 else loop.NOTHING

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Requests, "read", read)
        with pytest.raises(loop.Interrupted, match="of 7, which is saved"):
            loop.run(tiny(**SETTINGS), folder, silent=True)
    loop.run(tiny(**SETTINGS), folder, silent=True)


def main(out, folder, coordinator="", process_id="0", process_count="1"):
    jax.config.update("jax_enable_x64", True)
    parallel.connect(coordinator, int(process_id), int(process_count))
    found = digits()
    streaming.records.load = lambda name, size: found
    seen = watched()
    folder = pathlib.Path(folder)
    loop.run(tiny(**SETTINGS), folder / "whole", silent=True)
    numbers, given = zip(*seen, strict=True)
    np.savez(
        out,
        lengths=[len(batch) for batch in numbers],
        numbers=np.concatenate(numbers),
        given=np.concatenate(given),
    )
    if coordinator:
        stopped_and_resumed(folder / "stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
