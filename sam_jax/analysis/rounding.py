"""What is left of a network after its weights are rounded to a few bits."""

from typing import Any

import jax
import jax.numpy as jnp

from sam_jax import checks

Tree = Any


def round_weights(params: Tree, bits: int) -> Tree:
    """Weights rounded to 2^bits - 1 equidistant values around 0, channel by channel.

    The usual symmetric rounding to nearest: a channel of greatest absolute value a has
    the step a / (2^(bits-1) - 1). A channel is an output of a kernel [..., in, out], or
    an entry of an embedding [entries, features]. Biases, norm scales and what else has
    one axis alone stay as they are.

    Args:
      bits: of a weight, >= 2.
    """
    checks.integer("bits", bits, 2)

    def one(path: Any, leaf: jax.Array) -> jax.Array:
        name = path[-1].key
        if name not in ("kernel", "embedding"):
            return leaf
        return _round(leaf, bits, axis=-1 if name == "embedding" else -2)

    return jax.tree_util.tree_map_with_path(one, params)


def _round(weights: jax.Array, bits: int, axis: int) -> jax.Array:
    levels = 2 ** (bits - 1) - 1
    step = jnp.max(jnp.abs(weights), axis=axis, keepdims=True) / levels
    return jnp.round(weights / jnp.where(step == 0, 1, step)) * step
