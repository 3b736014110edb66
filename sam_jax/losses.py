"""Losses: one number per example, finite with finite gradients for logits of +-1e4.

Labels are integers. They are data, unknown while a function is compiled, so a label
outside its range cannot raise: its loss is NaN, never a plausible number. Losses of
bfloat16 and float16 logits are computed in float32. Logarithms are natural.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from sam_jax import checks

Input = Shaped[ArrayLike, "..."]
PerExample = Float[Array, " batch"]
Loss = Callable[..., PerExample]


def cross_entropy(
    logits: Input, labels: Input, *, smoothing: checks.Number = 0.0
) -> PerExample:
    """-log p_y, with p = softmax(logits).

    With smoothing s the one-hot target is mixed with the uniform one:
    -(1 - s) log p_y - (s / C) sum_c log p_c (Szegedy et al. 2016, Sec. 7).

    Args:
      logits: [batch, classes].
      labels: integers in 0..classes-1, [batch].
      smoothing: s in [0, 1]; 0 is plain cross-entropy.

    Examples:
      >>> loss = cross_entropy(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([0]))
      >>> [round(float(x), 4) for x in loss]  # -log(1/4)
      [1.3863]
    """
    checks.number("smoothing", smoothing, 0, 1)
    logits, labels = _multiclass(logits, labels)
    log_p = jax.nn.log_softmax(logits)
    loss = -_at(log_p, labels)
    if smoothing == 0:
        return loss
    return (1 - smoothing) * loss - smoothing * jnp.mean(log_p, axis=-1)


def generalized_cross_entropy(
    logits: Input, labels: Input, q: checks.Number = 0.7
) -> PerExample:
    """(1 - p_y^q) / q (Zhang & Sabuncu 2018, Eq. 6).

    q -> 0 is cross-entropy (and q = 0 is allowed); q = 1 is 1 - p_y, half the l1
    distance of p to the one-hot target. Robust to label noise since the gradient, that
    of cross-entropy times p_y^q, fades for labels the network does not believe.

    Args:
      logits: [batch, classes].
      labels: integers in 0..classes-1, [batch].
      q: in [0, 1].
    """
    checks.number("q", q, 0, 1)
    logits, labels = _multiclass(logits, labels)
    log_p = _at(jax.nn.log_softmax(logits), labels)
    return -log_p if q == 0 else -jnp.expm1(q * log_p) / q


def binary_cross_entropy(logits: Input, labels: Input) -> PerExample:
    """log(1 + exp(-s z)) with s = +1 for label 1 and s = -1 for label 0.

    The cross-entropy of the two logits (0, z): the logistic loss.

    Args:
      logits: z, [batch].
      labels: 0 or 1, [batch]; -1 is no label here and gives NaN.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim != 1:
        raise ValueError(
            f"Received logits of shape {logits.shape}; binary_cross_entropy takes one "
            "logit an example, [batch]. For [batch, classes] use cross_entropy; for "
            "[batch, 1] pass logits[:, 0]."
        )
    return jax.nn.softplus(-_margin(*_checked(logits, labels)))


def cross_entropy_with_offset(
    logits: Input, labels: Input, offset: checks.Number = 0.0
) -> PerExample:
    """log(1 + exp(offset - s (z_1 - z_0))), s = +1 for label 1 and -1 for label 0.

    Two-class cross-entropy that asks for a margin of `offset` before it counts an
    example as fitted; offset 0 is cross-entropy.

    Args:
      logits: z, [batch, 2].
      labels: 0 or 1, [batch].
      offset: any finite number.
    """
    checks.number("offset", offset)
    logits, labels = _multiclass(logits, labels)
    if logits.shape[1] != 2:
        raise ValueError(
            f"Received logits of shape {logits.shape}; cross_entropy_with_offset is "
            "for two classes, [batch, 2]."
        )
    return jax.nn.softplus(offset - _margin(logits[:, 1] - logits[:, 0], labels))


def over_tokens(loss: Loss) -> Loss:
    """The loss of a sequence: the mean of a loss of examples over its tokens.

    An example of a language model is a sequence: batches, groups of m and weights of
    examples count sequences, and each counts alike, whatever its number of tokens.

    Returns: function of logits [batch, length, vocabulary] and labels [batch, length],
      of which negative ones stand where there is no token to predict; a sequence of
      these alone has loss 0. Logits of other shapes are left to `loss` itself.
    """

    def of_sequences(logits: Input, labels: Input) -> PerExample:
        logits, labels = jnp.asarray(logits), jnp.asarray(labels)
        if logits.ndim != 3:
            return loss(logits, labels)
        if labels.shape != logits.shape[:2]:
            raise ValueError(
                f"Received labels of shape {labels.shape} for logits of shape "
                f"{logits.shape}; give the label of every token, [batch, length]."
            )
        there = labels >= 0
        every = loss(
            logits.reshape(-1, logits.shape[-1]),
            jnp.where(there, labels, 0).reshape(-1),
        ).reshape(labels.shape)
        total = jnp.sum(jnp.where(there, every, 0), axis=1)
        return total / jnp.maximum(jnp.sum(there, axis=1), 1)

    return of_sequences


def smallest_k_mean(
    losses: Float[Array, " batch"], fraction_removed: checks.Number
) -> Float[Array, ""]:
    """Mean of the n - floor(fraction_removed n) smallest of n losses.

    The trimmed loss: the largest are taken to be mislabelled, and get no gradient.

    Args:
      losses: per example, [n]. Which of equal losses are removed is not defined.
      fraction_removed: in [0, 1); 0 is the mean.
    """
    checks.number("fraction_removed", fraction_removed, 0, 1)
    kept = losses.size - int(fraction_removed * losses.size)
    if kept < 1:
        raise ValueError(
            f"Received fraction_removed={fraction_removed!r}, which removes all "
            f"{losses.size} losses; give less than 1."
        )
    return jnp.mean(jnp.sort(losses)[:kept])


def divergence(logits: Input, others: Input) -> PerExample:
    """KL(p | q) of p = softmax(logits), q = softmax(others), both [batch, classes]."""
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "generalized_cross_entropy": generalized_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy_with_offset": cross_entropy_with_offset,
}


def create(name: str, **options: Any) -> Loss:
    """The loss of this name, (logits, labels) -> [batch], with its options set.

    create("generalized_cross_entropy", q=0.7); create("cross_entropy", smoothing=0.1).

    Raises: ValueError for an unknown name or option, listing the known ones, and for a
      value out of range.
    """
    loss = checks.choose("loss", name, LOSSES)
    arguments = list(inspect.signature(loss).parameters)
    checks.options(f"loss {name!r}", options, arguments[2:])
    chosen = functools.partial(loss, **options)
    binary = name == "binary_cross_entropy"
    logits = jax.ShapeDtypeStruct((1,) if binary else (1, 2), jnp.float32)
    jax.eval_shape(chosen, logits, jax.ShapeDtypeStruct((1,), jnp.int32))
    return chosen


def _multiclass(
    logits: Input, labels: Input
) -> tuple[Float[Array, "batch classes"], Int[Array, " batch"]]:
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim != 2:
        raise ValueError(
            f"Received logits of shape {logits.shape}; give [batch, classes]. For one "
            "logit an example use binary_cross_entropy."
        )
    return _checked(logits, labels)


def _checked(
    logits: Shaped[Array, "batch ..."], labels: Shaped[Array, "..."]
) -> tuple[Float[Array, "batch ..."], Int[Array, " batch"]]:
    """Logits in float32 or wider, labels as they are; errors for anything else."""
    batch = logits.shape[:1]
    if labels.shape == logits.shape and labels.ndim > 1:
        raise ValueError(
            f"Received labels of shape {labels.shape}, one-hot it seems; pass integer "
            "labels of shape [batch], such as labels.argmax(-1)."
        )
    if labels.shape != batch or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"Received labels of shape {labels.shape} and dtype {labels.dtype} for "
            f"logits of shape {logits.shape}; pass integers of shape {batch}."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"Received logits of dtype {logits.dtype}; pass floats.")
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), labels


def _at(
    values: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> PerExample:
    """values[i, labels[i]]; NaN for a label out of range."""
    classes = values.shape[1]
    index = jnp.where(labels < 0, classes, labels)  # negative ones would wrap around
    taken = jnp.take_along_axis(
        values, index[:, None], axis=1, mode="fill", fill_value=jnp.nan
    )
    return taken[:, 0]


def _margin(z: PerExample, labels: Int[Array, " batch"]) -> PerExample:
    """s z with s = +1 for label 1, -1 for label 0; NaN for any other label."""
    sign = jnp.where(labels == 1, 1.0, jnp.where(labels == 0, -1.0, jnp.nan))
    return z * sign.astype(z.dtype)
