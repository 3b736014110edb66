"""Loss derivatives of clean and of noisy examples, at w and at ascent points (Sec. 4).

Cross-entropy of an example whose label has the log-odds z = log p_y / (1 - p_y) is
log(1 + e^-z), and its derivative by z is -(1 - p_y): what an example weighs in the
gradient. In the paper's linear model the ascent of an example's own loss lowers its z
by an offset c >= 0, which raises the weights of the examples that are fitted, the clean
ones early in training, relative to those of the others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Weights(NamedTuple):
    """What ascent does to the examples' weights 1 - p_y.

    clean, noisy: means over these examples, f[2]: at w, and at the ascent point.
    lowered: share of all examples whose z the ascent does not raise, f[].
    """

    clean: Float[Array, " 2"]
    noisy: Float[Array, " 2"]
    lowered: Float[Array, ""]


def weights(
    here: Float[Array, "b classes"],
    there: Float[Array, "b classes"],
    labels: Int[Array, " b"],
    wrong: Bool[Array, " b"],
) -> Weights:
    """The weights of the examples of a batch.

    Args:
      here, there: logits at w, and at the ascent point of each example.
      labels: given. wrong: where they are not the true ones.
    """
    odds = jnp.stack([log_odds(logits, labels) for logits in (here, there)])
    size = jax.nn.sigmoid(-odds)
    clean, noisy = (
        jnp.sum(size * chosen, 1) / jnp.maximum(jnp.sum(chosen), 1)
        for chosen in (~wrong, wrong)
    )
    return Weights(clean, noisy, jnp.mean(odds[1] <= odds[0]))


def log_odds(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """log p_y / (1 - p_y), exact for odds of any size."""
    own = jnp.take_along_axis(logits, labels[:, None], 1)
    classes = jnp.arange(logits.shape[1])
    others = jnp.where(classes == labels[:, None], -jnp.inf, logits)
    return own[:, 0] - jax.nn.logsumexp(others, axis=1)
