"""The loss along lines between networks, and on planes around one of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sam_jax.core import trees

Tree = Any
# params -> one number or several, such as loss and error
Measure = Callable[[Tree], Any]


def interpolate(
    measure: Measure, a: Tree, b: Tree, alphas: Float[np.ndarray, " points"]
) -> Float[np.ndarray, "points ..."]:
    """measure((1 - alpha) a + alpha b) for every alpha; alphas beyond [0, 1] go beyond.

    Running statistics of BatchNorm belong to weights, not to a mean of weights:
    `measure` is to compute them anew (see `training.evaluate.FreshStatistics`).
    """
    direction = jax.tree.map(jnp.subtract, trees.scale(b, 1), trees.scale(a, 1))
    points = (trees.add_scaled(a, float(alpha), direction) for alpha in alphas)
    return np.array([np.asarray(measure(w), float) for w in points])


def relative_distance(a: Tree, b: Tree, start: Tree) -> float:
    """|a - b| / |a - start|: how far apart, in units of the way `a` has come."""

    def length(x: Tree, y: Tree) -> float:
        return float(trees.norm(trees.add_scaled(trees.scale(x, 1), -1.0, y)))

    return length(a, b) / length(a, start)


def filter_normalized(key: jax.Array, params: Tree) -> Tree:
    """A random direction with every filter as long as the weights' own.

    Li et al. 2018, Sec. 4: d_ij <- d_ij |w_ij| / |d_ij| for filter j of layer i, the
    slice of the last axis: kernels are [height, width, in, out] or [in, out] here.
    Vectors (biases, scales of norm layers) get 0, as their authors do it.
    """

    def one(noise: jax.Array, w: jax.Array) -> jax.Array:
        if not trees.is_floating(w) or jnp.ndim(w) < 2:
            return jnp.zeros_like(w)
        axes = tuple(range(w.ndim - 1))
        lengths = [
            jnp.linalg.norm(x.reshape(-1, x.shape[-1]), axis=0) for x in (w, noise)
        ]
        ratio = lengths[0] * trees.reciprocal(lengths[1])
        return noise * jnp.expand_dims(ratio, axes)

    return jax.tree.map(one, trees.random_like(key, params), params)


def surface(
    measure: Measure,
    params: Tree,
    first: Tree,
    second: Tree,
    alphas: Float[np.ndarray, " a"],
    betas: Float[np.ndarray, " b"],
) -> Float[np.ndarray, "a b ..."]:
    """measure(params + alpha first + beta second) on a grid.

    Args:
      first, second: directions, from `filter_normalized` or anywhere.
    """
    rows = []
    for alpha in alphas:
        moved = trees.add_scaled(params, float(alpha), first)
        points = (trees.add_scaled(moved, float(beta), second) for beta in betas)
        rows.append([np.asarray(measure(w), float) for w in points])
    return np.array(rows)
