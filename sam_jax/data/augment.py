"""Augmentation inside the jitted step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped

from sam_jax import checks


class Placement(NamedTuple):
    """How one image is augmented (or many, with a leading axis).

    corner: i32[2], row and column of the crop in the padded image.
    flip: bool[], whether left and right are swapped.
    """

    corner: Int[Array, "*batch 2"]
    flip: Bool[Array, "*batch"]


def augment(
    key: Shaped[Array, "..."],
    images: Shaped[Array | np.ndarray, "batch height width channels"],
    *,
    crop_padding: int,
    mirror: bool,
) -> Shaped[Array, "batch height width channels"]:
    """Random crops of the zero-padded images, half of them mirrored.

    The usual augmentation of CIFAR (He et al. 2016, Sec. 4.2) is crop_padding=4,
    mirror=True; it is meant for images as stored, so that the padding is black.

    Args:
      key: one key, or one for each image [batch]: with the latter, an image does not
        depend on which others share its device.
      crop_padding: pixels of zeros on each side, >= 0; a crop of the old size starts at
        one of (2 crop_padding + 1)^2 corners. 0 crops nothing.
      mirror: swap left and right with probability 1/2.

    Returns: images of the same shape and dtype.
    Raises: ValueError for a padding that is no integer >= 0, or another number of keys.
    """
    checks.integer("crop_padding", crop_padding, 0)
    images = jnp.asarray(images)
    keys = _key_per_image(key, images.shape[0])
    drawn = jax.vmap(lambda k: draw(k, crop_padding))(keys)
    if crop_padding:
        images = crop(images, drawn.corner, crop_padding)
    if mirror:
        flip = drawn.flip[:, None, None, None]
        images = jnp.where(flip, images[:, :, ::-1], images)
    return images


def draw(key: Shaped[Array, ""], crop_padding: int) -> Placement:
    """A uniformly random placement of one image."""
    corner_key, flip_key = jax.random.split(key)
    corner = jax.random.randint(corner_key, (2,), 0, 2 * crop_padding + 1, jnp.int32)
    return Placement(corner, jax.random.bernoulli(flip_key))


def crop(
    images: Shaped[Array, "batch height width channels"],
    corners: Int[Array, "batch 2"],
    padding: int,
) -> Shaped[Array, "batch height width channels"]:
    """Pads with zeros and cuts each image out at its corner: one gather an image."""
    borders = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, borders)

    def cut(image, corner):
        row, column = corner
        start = (row, column, jnp.zeros_like(row))
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(cut)(padded, corners)


def _key_per_image(key: Shaped[Array, "..."], count: int) -> Shaped[Array, " count"]:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.ndim and len(key) != count:
        raise ValueError(
            f"Received {len(key)} keys for {count} images; give one for each, or a "
            "single key."
        )
    return key if key.ndim else jax.random.split(key, count)
