"""Noiseless sparse regression: the data of Fig. 1 and 9."""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sam_jax import checks


class SparseRegression(NamedTuple):
    """x: inputs, standard normal. y = X beta. beta: sparse, of length 1.

    All have a leading axis where several seeds were asked for.
    """

    x: Float[np.ndarray, "*seeds n d"]
    y: Float[np.ndarray, "*seeds n"]
    beta: Float[np.ndarray, "*seeds d"]


def sample(
    seeds: int | Iterable[int], *, n: int = 20, d: int = 30, nonzeros: int = 3
) -> SparseRegression:
    """Draws a problem for one seed, or one for each of several.

    Args:
      n: examples. d: features. nonzeros: |beta|_0; the first entries, normal, scaled
        to |beta|_2 = 1. The defaults are the paper's.

    Raises: ValueError for sizes below 1, and for more nonzeros than features.
    """
    checks.integer("n", n, 1)
    checks.integer("nonzeros", nonzeros, 1)
    if nonzeros > checks.integer("d", d, 1):
        raise ValueError(
            f"Received nonzeros={nonzeros} of d={d} features; give 1..{d}."
        )
    if isinstance(seeds, Iterable):
        drawn = [_sample(seed, n, d, nonzeros) for seed in seeds]
        return SparseRegression(
            *(np.stack(parts) for parts in zip(*drawn, strict=True))
        )
    return _sample(seeds, n, d, nonzeros)


def test_loss(
    beta: Float[ArrayLike, "*#batch d"],
    target: Float[ArrayLike, "*#batch d"],
    weight: float,
) -> Float[Array, "*batch"]:
    """The exact test loss, E weight <beta - target, x>^2 = weight |beta - target|^2.

    Args:
      weight: of r^2 in the loss: 1/4 for squares, 1/2 for the product.
    """
    return weight * jnp.sum((jnp.asarray(beta) - jnp.asarray(target)) ** 2, -1)


def _sample(seed: int, n: int, d: int, nonzeros: int) -> SparseRegression:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    beta = np.zeros(d)
    beta[:nonzeros] = rng.standard_normal(nonzeros)
    beta /= np.linalg.norm(beta)
    return SparseRegression(x, x @ beta, beta)
