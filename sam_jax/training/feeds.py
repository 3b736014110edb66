"""Where the examples of a step come from: memory, or records that are read ahead.

Either feed goes through the numbers of an epoch's batches, which are a function of
seed and epoch (`epochs.batches`). So the position in the data is the step that a
checkpoint holds, and a run that goes on reads on from there, bit for bit.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from sam_jax.data.noise import LabelNoise
from sam_jax.data.records import Records
from sam_jax.training.examples import Examples

# Numbers of examples as a mapped step takes them: i32[b], or i32[devices here, b].
Rows = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Examples on disk, in place of `Examples` in memory.

    records: of the data set. noise: of its training labels.
    dtype: that images are normalised in.
    """

    records: Records
    noise: LabelNoise
    dtype: Any

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return self.records.example(0)["image"].shape

    @property
    def input_dtype(self) -> Any:
        """Of what the network gets."""
        return jnp.float32

    def checksum(self) -> int:
        """Of what tells the data apart: version, noise, mean and deviation."""
        records, noise = self.records, self.noise
        arrays = [records.mean, records.std, noise.chosen, noise.drawn, noise.mapping]
        total = zlib.crc32(records.version.encode())
        for array in arrays:
            total = zlib.crc32(b"-" if array is None else array.tobytes(), total)
        return total

    def feed(self, batches: Iterable[Rows]) -> Iterator[tuple[Examples, Rows]]:
        """The examples of each batch alone, and their places among them.

        Each process reads what its own devices take.
        """
        listed = list(batches)
        if not listed:
            return
        shapes = [rows.shape for rows in listed[0]]
        flat = [np.concatenate([r.ravel() for r in rows]) for rows in listed]
        for read in self.records.batches(flat):
            yield self._examples(read, shapes)

    def _examples(
        self, read: dict[str, np.ndarray], shapes: list[tuple[int, ...]]
    ) -> tuple[Examples, Rows]:
        """Each device gets the rows of all its batches one after another."""
        lead = shapes[0][:-1]  # () or (devices here,)
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

        def rows(values: np.ndarray) -> np.ndarray:
            parts = np.split(values, ends)
            shaped = [
                part.reshape(*shape, *part.shape[1:])
                for part, shape in zip(parts, shapes, strict=True)
            ]
            return np.concatenate(shaped, axis=len(lead))

        def everywhere(value: Any) -> np.ndarray:
            value = np.asarray(value, self.dtype)
            return np.broadcast_to(value, (*lead, *value.shape))

        true, numbers = read["label"], read["number"]
        count = len(self.records.train)
        given = np.where(
            numbers < count,
            self.noise.replace(np.minimum(numbers, count - 1), true),
            true,
        )
        examples = Examples(
            images=rows(read["image"]),
            given=rows(given.astype(np.int32)),
            true=rows(true.astype(np.int32)),
            mean=everywhere(self.records.mean),
            std=everywhere(self.records.std),
            scale=everywhere(1 / 255),
        )
        starts = np.cumsum([0, *(shape[-1] for shape in shapes)])
        places = tuple(
            np.broadcast_to(np.arange(a, b, dtype=np.int32), shape)
            for a, b, shape in zip(starts, starts[1:], shapes, strict=False)
        )
        return examples, places


def feed(
    examples: Examples | Streamed, batches: Iterable[Rows]
) -> Iterator[tuple[Examples, Rows]]:
    """What a step takes of each batch: examples, and numbers of some of them.

    Args:
      batches: numbers of examples, split over devices.
    """
    if isinstance(examples, Streamed):
        yield from examples.feed(batches)
    else:
        for rows in batches:
            yield examples, rows
