"""The two ways in which a network is called: in training and in evaluation mode."""

from typing import Any

import flax.linen as nn
import jax

Tree = Any


def training_logits(
    module: nn.Module,
    params: Tree,
    batch_stats: Tree,
    images: jax.Array,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Tree]:
    """Logits with the batch's own statistics, and the running statistics after it.

    Args:
      key: of dropout; None for a fixed one, where a network is measured.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    logits, updated = module.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0) if key is None else key},
    )
    return logits, updated.get("batch_stats", {})


def evaluation_logits(
    module: nn.Module, params: Tree, batch_stats: Tree, images: jax.Array
) -> jax.Array:
    """Logits with the running statistics."""
    variables = {"params": params, "batch_stats": batch_stats}
    return module.apply(variables, images, train=False)
