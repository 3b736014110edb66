"""Losses that an attack ascends, per example, of logits z and labels y.

z_(1) >= z_(2) >= ... are the sorted logits of an example.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from sam_jax import checks, losses
from sam_jax.attacks.geometry import TINY

Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
PerExample = Float[Array, " batch"]
Objective = Callable[..., PerExample]
Input = Shaped[ArrayLike, "..."]


def margin(logits: Input, labels: Input) -> PerExample:
    """max_{i != y} z_i - z_y: above 0 where the label is not predicted."""
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    return jnp.max(jnp.where(own, -jnp.inf, logits), axis=1) - at(logits, labels)


def dlr(logits: Input, labels: Input) -> PerExample:
    """(max_{i != y} z_i - z_y) / (z_(1) - z_(3)) (Croce & Hein 2020a, Eq. 6).

    The difference of logits ratio: unlike cross-entropy it does not change when the
    logits are shifted or multiplied. Needs three classes.
    """
    logits = jnp.asarray(logits)
    _need(logits, 3, "dlr")
    first, _, third = largest(logits, 3)
    return margin(logits, labels) / (first - third + TINY)


def dlr_targeted(logits: Input, labels: Input, targets: Input) -> PerExample:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2) (Croce & Hein 2020a, Eq. 7).

    With three classes the denominator is z_(1) - z_(3), as z_(4) does not exist; with
    two it is 1, since z_(1) - z_(2) would leave a constant.

    Args:
      targets: t, the class to be predicted instead of y.
    """
    logits = jnp.asarray(logits)
    labels, targets = jnp.asarray(labels), jnp.asarray(targets)
    difference = at(logits, targets) - at(logits, labels)
    classes = logits.shape[1]
    if classes == 2:
        return difference
    first, _, *others = largest(logits, min(classes, 4))
    return difference / (first - sum(others) / len(others) + TINY)


def largest(logits: Logits, count: int) -> list[PerExample]:
    """z_(1), ..., z_(count)."""
    return list(jax.lax.top_k(logits, count)[0].T)


def at(logits: Logits, labels: Labels) -> PerExample:
    """z_y."""
    return jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": losses.cross_entropy,
    "dlr": dlr,
    "dlr_targeted": dlr_targeted,
    "margin": margin,
}
TARGETED = ("dlr_targeted",)


def choose(loss: str | Objective) -> Objective:
    """The loss of this name, or the (logits, labels) -> [batch] that was given."""
    return loss if callable(loss) else checks.choose("attack loss", loss, OBJECTIVES)


def _need(logits: Logits, classes: int, name: str) -> None:
    if logits.shape[1] < classes:
        raise ValueError(
            f"Received logits of {logits.shape[1]} classes; the loss {name!r} needs "
            f"{classes}. Take 'cross_entropy' or 'margin'."
        )
