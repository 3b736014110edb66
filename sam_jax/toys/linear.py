"""Linear classifiers: margins, SumMax in closed form, adversarial training.

f_x(w) = <w, x> with labels y = +-1. A loss here is a function of the margin y f_x(w).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from sam_jax import losses
from sam_jax.core import trees
from sam_jax.core.objective import Objective

Vector = Float[ArrayLike, " d"]
Margins = Float[Array, " n"]
Loss = Callable[[Margins], Margins]


class Examples(NamedTuple):
    """inputs: x. labels: y, +1 or -1 as floats."""

    inputs: Float[Array, "n d"]
    labels: Float[Array, " n"]


def margins(w: Vector, examples: Examples) -> Margins:
    """y_i <w, x_i>: positive where the label is fitted."""
    return examples.labels * (examples.inputs @ w)


def cross_entropy(margin: Margins) -> Margins:
    """log(1 + exp(-z)) of a margin z."""
    return losses.binary_cross_entropy(margin, jnp.ones(margin.shape, jnp.int32))


def generalized_cross_entropy(margin: Margins, q: float = 0.7) -> Margins:
    """(1 - (1 + exp(-z))^-q) / q of a margin z (Zhang & Sabuncu 2018, Eq. 6)."""
    logits = jnp.stack([jnp.zeros_like(margin), margin], axis=1)
    labels = jnp.ones(margin.shape, jnp.int32)
    return losses.generalized_cross_entropy(logits, labels, q)


def derivative_change(loss: Loss, margin: Margins, offset: float) -> Margins:
    """l'(z - c) - l'(z): what an offset c does to the loss derivative (Fig. 6).

    For cross-entropy it is least at z = c / 2, with the value -tanh(c / 4).
    """
    slope = jax.grad(lambda z: jnp.sum(loss(z)))
    return slope(margin - offset) - slope(margin)


def objective(loss: Loss = cross_entropy) -> Objective:
    """The mean of loss(y_i <w, x_i>); the batch are Examples."""
    return Objective(margins, lambda margin, examples: loss(margin))


def sum_max_objective(rho: float, loss: Loss = cross_entropy) -> Objective:
    """The mean of loss(y_i <w, x_i> - rho |x_i|): SumMax in closed form (Eq. 6).

    For a decreasing loss the worst perturbation of example i is -rho y_i x_i / |x_i|.
    Its gradient is the core's with groups of one example, by another route.
    """

    def offset_margins(w, examples):
        lengths = jnp.linalg.norm(examples.inputs, axis=1)
        return margins(w, examples) - rho * lengths

    return Objective(offset_margins, lambda margin, examples: loss(margin))


def adversarial_objective(
    epsilon: float, *, preserved: Vector | None = None, loss: Loss = cross_entropy
) -> Objective:
    """The mean of loss(y_i <w, x_i + delta_i>), delta_i worst on an l2 ball (Sec. 5).

        delta_i = -epsilon y_i P w / |P w|

    Args:
      epsilon: radius in input units.
      preserved: unit vector that no delta has a part in: with the true mean mu of the
        two Gaussians, the attack cannot change the true label (Fig. 8). P projects on
        its orthogonal complement; None allows the whole ball.

    The gradient is that at the attacked points, which by Danskin's theorem is that of
    the worst-case loss.
    """

    def attacked_margins(w, examples):
        fixed = jax.lax.stop_gradient(w)
        return margins(w, attacked(fixed, examples, epsilon, preserved=preserved))

    return Objective(attacked_margins, lambda margin, examples: loss(margin))


def attacked(
    w: Vector, examples: Examples, epsilon: float, *, preserved: Vector | None = None
) -> Examples:
    """The examples x_i + delta_i that `adversarial_objective` trains on at w."""
    towards = w if preserved is None else w - jnp.vdot(preserved, w) * preserved
    delta = -epsilon * examples.labels[:, None] * trees.unit(towards)
    return Examples(examples.inputs + delta, examples.labels)


def area_under_curve(
    scores: Float[ArrayLike, " n"], positive: Shaped[ArrayLike, " n"]
) -> Float[Array, ""]:
    """P(a positive scores above a negative), ties counting half (area under the ROC).

    Args:
      positive: 1 or True for the positives; there must be some, and some negatives.
    """
    scores, is_positive = jnp.asarray(scores), jnp.asarray(positive, bool)
    above = jnp.sign(scores[:, None] - scores[None, :])
    pairs = is_positive[:, None] & ~is_positive[None, :]
    return jnp.sum(pairs * (above + 1) / 2) / jnp.sum(pairs)
