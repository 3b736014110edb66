"""The examples of a run on a device, and batches of them as the network takes them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import data

Array = jax.Array | np.ndarray
Batch = dict[str, Any]
# (keys [b], images [b, ...]) -> images
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class Pixels(NamedTuple):
    """Images as the network takes them, and in [0, 1], where attacks move them.

    mean, std: [channels], of stored images. scale: stored images * scale are in [0, 1].
    """

    mean: Array
    std: Array
    scale: Array | float

    def unit(self, normalized: jax.Array) -> jax.Array:
        """Normalised images in [0, 1]."""
        return jnp.clip((normalized * self.std + self.mean) * self.scale, 0, 1)

    def normalized(self, unit: jax.Array) -> jax.Array:
        """Images in [0, 1] as the network takes them."""
        return (unit / self.scale - self.mean) / self.std


class Examples(NamedTuple):
    """The data of a run, whole on every device; a batch is an array of indices.

    images: [N, height, width, channels] as stored. given: labels trained on, i32[N].
    true: labels before noise, i32[N]. mean, std: [channels], for normalisation.
    scale: images * scale are in [0, 1], where attacks move them.

    Of text the images are tokens [N, length] and the labels the token after each,
    [N, length], negative where there is none to predict; mean and std are None.
    """

    images: Array
    given: Array
    true: Array
    mean: Array | None
    std: Array | None
    scale: Array | float = 1.0

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width, channels), or (length,) of text."""
        return self.images.shape[1:]

    @property
    def input_dtype(self) -> Any:
        """Of what the network gets: float32, or the integer type of tokens."""
        return jnp.float32 if self.mean is not None else self.images.dtype

    @property
    def pixels(self) -> Pixels:
        """How their images are normalised."""
        assert self.mean is not None
        assert self.std is not None
        return Pixels(self.mean, self.std, self.scale)

    def batch(
        self,
        indices: Array,
        augment: Callable[[jax.Array], jax.Array] | None = None,
    ) -> Batch:
        """Normalised images and given labels, {"images": [b, ...], "labels": i32[b]}.

        Of text the tokens and those after them, {"images": [b, length], ...}.

        Args:
          augment: changes the stored images first, [b, ...]; None for none.
        """
        images = jnp.asarray(self.images)[indices]
        if augment is not None:
            images = augment(images)
        if self.mean is not None and self.std is not None:
            images = data.normalize(images, self.mean, self.std)
        return {"images": images, "labels": jnp.asarray(self.given)[indices]}


def example_keys(key: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """Keys [count] of this device's examples, from those of the global batch.

    Every example has a key of its own, by its place in the global batch: what is drawn
    from it does not depend on the number of devices.
    """
    if axis_name is None:
        return jax.random.split(key, count)
    keys = jax.random.split(key, count * jax.lax.axis_size(axis_name))
    start = count * jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(keys, start, count)
