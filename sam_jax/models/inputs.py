"""Checks of what every model is given: images or tokens, and a compute dtype."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int


def as_images(images: Any) -> Array:
    """Images as an array [B, H, W, C]."""
    images = jnp.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"Received images of shape {images.shape}; the model takes a batch "
            "[batch, height, width, channels]. Add the missing axis, such as "
            "images[..., None] for grey images or images[None] for a single one."
        )
    return images


def as_vectors(images: Any) -> Array:
    """Images, or anything with examples on the leading axis, flattened to [B, d]."""
    images = jnp.asarray(images)
    if images.ndim < 2:
        raise ValueError(
            f"Received inputs of shape {images.shape}; the model takes a batch "
            "[batch, ...]. Use inputs[None] for a single example."
        )
    return images.reshape(images.shape[0], -1)


def as_tokens(tokens: Any) -> Int[Array, "batch length"]:
    """Numbers of tokens as integers [B, length]; bytes become wider integers."""
    tokens = jnp.asarray(tokens)
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"Received tokens of shape {tokens.shape} and dtype {tokens.dtype}; the "
            "model takes integers [batch, length]. Use tokens[None] for one sequence."
        )
    return tokens.astype(jnp.promote_types(tokens.dtype, jnp.int32))


def divisors(n: int) -> list[int]:
    """The numbers that divide n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def check_dtype(dtype: Any) -> None:
    """Refuses what is not a floating dtype or its name; None is left to the inputs."""
    try:
        valid = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(
            f"Received dtype={dtype!r}; give a floating dtype or its name, such as "
            "'float32' or 'bfloat16', or None to follow inputs and parameters."
        )
