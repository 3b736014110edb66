"""Errors per example, and sums of them that add over batches and devices."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Shaped


def errors(
    logits: Shaped[ArrayLike, "..."], labels: Shaped[ArrayLike, "..."]
) -> Shaped[Array, " batch"]:
    """1 where the predicted class is not the label, else 0: i32[batch].

    The prediction is the first largest of [batch, classes] logits, or z > 0 of a binary
    [batch] logit. An example with a NaN logit is an error. Of sequences, with logits
    [batch, length, classes], the share of tokens that are predicted wrongly, f[batch].
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim == 3 and labels.shape == logits.shape[:2]:
        flat = errors(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        wrong = jnp.sum(flat.reshape(labels.shape) * (labels >= 0), axis=1)
        return wrong / jnp.maximum(predictions(labels), 1)
    if logits.ndim not in (1, 2) or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"Received logits of shape {logits.shape} and labels of shape "
            f"{labels.shape}; give [batch, classes] (or [batch] if binary) and [batch],"
            " or [batch, length, classes] and [batch, length]."
        )
    binary = logits.ndim == 1
    predicted = logits > 0 if binary else jnp.argmax(logits, axis=-1)
    undefined = jnp.isnan(logits) if binary else jnp.isnan(logits).any(axis=-1)
    return ((predicted != labels) | undefined).astype(jnp.int32)


def predictions(labels: Shaped[ArrayLike, "..."]) -> Int[Array, " batch"]:
    """What an example is to predict: one class, or its tokens with a label >= 0."""
    labels = jnp.asarray(labels)
    if labels.ndim == 1:
        return jnp.ones(labels.shape, jnp.int32)
    return jnp.sum(labels >= 0, axis=1, dtype=jnp.int32)


class Metrics(NamedTuple):
    """Sums over examples; those of several batches or devices add up.

    examples: number (or total weight) of examples, f[].
    loss_sum: of the losses, f[].
    error_sum: of the errors, f[].
    """

    examples: Float[Array, ""]
    loss_sum: Float[Array, ""]
    error_sum: Float[Array, ""]

    @classmethod
    def of_batch(
        cls,
        losses: Shaped[ArrayLike, "..."],
        errors: Shaped[ArrayLike, "..."],
        weights: Shaped[ArrayLike, "..."] | None = None,
    ) -> "Metrics":
        """Sums of one batch.

        Args:
          losses, errors: per example, [batch].
          weights: >= 0, [batch], or booleans: 0 leaves an example out, whatever its
            loss (even NaN), as the padding of a last batch or the clean part of noisy
            data needs it. None for 1 each.
        """
        losses = jnp.asarray(losses)
        dtype = jnp.promote_types(losses.dtype, jnp.float32)
        w = jnp.ones_like(losses) if weights is None else jnp.asarray(weights)
        if w.shape != losses.shape or jnp.shape(errors) != losses.shape:
            raise ValueError(
                f"Received losses, errors, weights of shapes {losses.shape}, "
                f"{jnp.shape(errors)}, {w.shape}; all must be [batch]."
            )
        w = w.astype(dtype)

        def total(values: Array) -> Array:
            return jnp.sum(jnp.where(w > 0, w * values.astype(dtype), 0))

        return cls(jnp.sum(w), total(losses), total(jnp.asarray(errors)))
