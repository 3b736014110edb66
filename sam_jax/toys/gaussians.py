"""Two Gaussians, some labels flipped, and the exact error of a linear classifier.

Sec. 4.2 and App. C: x ~ N(y mu, sigma^2 I_d) with y = +-1 and |mu| = 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sam_jax import checks
from sam_jax.core import trees
from sam_jax.toys.linear import Examples


class TwoGaussians(NamedTuple):
    """mu: mean of the class +1, a unit vector. examples: the training set, with the
    labels it gives. flipped: whose given label is not the true one.
    """

    mu: Float[Array, " d"]
    examples: Examples
    flipped: Bool[Array, " n"]


def sample(
    key: Array,
    *,
    n: int = 50,
    d: int = 100,
    sigma: float = 0.1,
    flips: int | Int[Array, ""] = 0,
) -> TwoGaussians:
    """Draws mu on the unit sphere, then n points, and flips exactly `flips` labels.

    The defaults are the paper's. Randomising 90% of 50 labels flips 22.5 of them on
    average, and the number matters: above half of n the flipped ones are the majority.

    Raises: ValueError for flips outside 0..n (unless traced), and in float32 mode.
    """
    checks.float64("The two Gaussians' exact error")
    if isinstance(flips, int) and not 0 <= flips <= n:
        raise ValueError(f"Received flips={flips} of n={n} labels; give 0..{n}.")
    mean_key, label_key, noise_key, flip_key = jax.random.split(key, 4)
    mu = trees.unit(jax.random.normal(mean_key, (d,)))
    true = jax.random.rademacher(label_key, (n,), mu.dtype)
    inputs = true[:, None] * mu + sigma * jax.random.normal(noise_key, (n, d))
    flipped = jax.random.permutation(flip_key, n) < flips
    return TwoGaussians(mu, Examples(inputs, jnp.where(flipped, -true, true)), flipped)


def start(key: Array, d: int = 100, radius: float = 1 / 3) -> Float[Array, " d"]:
    """A uniformly random point of the sphere of this radius (App. C)."""
    return radius * trees.unit(jax.random.normal(key, (d,)))


def exact_error(
    w: Float[ArrayLike, " d"],
    mu: Float[ArrayLike, " d"],
    *,
    sigma: float = 0.1,
    epsilon: float = 0.0,
) -> Float[Array, ""]:
    """P(y <w, x + delta> < 0) = Phi((epsilon - <w, mu> / |w|) / sigma), exactly.

    Args:
      w: classifier; w = 0 counts as wrong half of the time.
      mu: mean of the class +1.
      sigma: standard deviation of a coordinate, > 0.
      epsilon: radius of the l2 ball that delta is the worst of; 0 for the plain error.

    Returns: a fraction. The least possible is Phi((epsilon - 1) / sigma), at w = mu.
    """
    return ndtr((epsilon - trees.dot(trees.unit(w), mu)) / sigma)
