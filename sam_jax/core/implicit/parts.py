"""X and D of a weight that is used in several places, in several loops, or both ways.

The gradient of M is the sum of X^T D over its uses. All uses of one kind are laid side
by side along the positions T, as are the iterations of loops that use one weight (see
`loops`); a use of M^T gives D for X and X for D (see `uses`). There are two kinds of X,
rows of numbers and one-hot rows, kept by their indices; so there are up to two parts,

    G = sum over parts a of  X_a^T D_a,
    |G|^2 = sum over parts a, b of  <X_a X_b^T, D_a D_b^T>,
    x' G = sum over parts a of  (x' X_a^T) D_a,   x' G^T = sum of  (x' D_a^T) X_a.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.sites import exact_product, inner_product, times_left
from sam_jax.core.implicit.uses import Use
from sam_jax.ops import layouts

__all__ = [
    "Part",
    "exact_product",
    "inner_product",
    "matrices",
    "matrix_gradient",
    "of",
    "product",
    "squared_norm",
]


class Part(NamedTuple):
    """left: X, [G, T, K], or the indices of its one-hot rows, [G, T].
    right: D, [G, T, N].
    """

    left: Array
    right: Array


def of(
    uses: Sequence[Use], inputs: Mapping[Key, Array], signals: Mapping[Key, Array]
) -> list[Part]:
    """The parts of a leaf, with its layers as leading axes.

    Args:
      inputs, signals: x and d of every use, stacked by the loops around it.
    """
    dense: list[Part] = []
    one_hot: list[Part] = []
    for use in uses:
        left = _side_by_side(use, use.site.left, inputs[use.key])
        right = _side_by_side(use, use.site.rows, signals[use.key])
        part = Part(right, left) if use.turned else Part(left, right)
        rows = part.left.ndim == part.right.ndim
        (dense if rows else one_hot).append(part)
    axis = len(uses[0].slicing) + 1

    def joined(same: list[Part]) -> Part:
        return Part(*(jnp.concatenate(side, axis) for side in zip(*same, strict=True)))

    return [joined(same) for same in (dense, one_hot) if same]


def _side_by_side(use: Use, function: Callable, values: Array) -> Array:
    """function(values) of every iteration, [*layers, G, T, ...], with the iterations
    that use one weight as positions.
    """
    for _ in use.around:
        function = jax.vmap(function)
    out = function(values)
    own = [i for i, a in enumerate(use.around) if a.sliced]
    shared = [i for i, a in enumerate(use.around) if not a.sliced]
    blocks = len(use.around)
    rest = range(blocks + 1, out.ndim)
    out = out.transpose(*own, blocks, *shared, *rest)
    positions = math.prod(out.shape[len(own) + 1 : blocks + 2])
    return out.reshape(*out.shape[: len(own) + 1], positions, *out.shape[blocks + 2 :])


def squared_norm(parts: Sequence[Part]) -> Array:
    """|G|^2 of one layer."""
    total = jnp.zeros(())
    for i, a in enumerate(parts):
        for b in parts[: i + 1]:
            product = inner_product(a.left, b.left, a.right.dtype)
            product = product * inner_product(a.right, b.right)
            total = total + (1 if a is b else 2) * jnp.sum(product)
    return total


def product(
    left: Shaped[Array, "G T2 ..."], parts: Sequence[Part], use: Use
) -> Float[Array, "G T2 N"]:
    """X' G of one layer, or X' G^T at a turned use, in float32 or wider."""
    if not use.turned:
        terms = [
            exact_product(inner_product(left, p.left, p.right.dtype), p.right)
            for p in parts
        ]
    else:
        outputs = use.site.outputs
        terms = [
            times_left(inner_product(left, p.right), p.left, outputs) for p in parts
        ]
    return sum(terms[1:], start=terms[0])


def matrix_gradient(use: Use, x: Array, d: Array) -> Float[Array, "*layers G K N"]:
    """X^T D of every layer: `site.apply` is linear in M, and this is its transpose."""

    def apply(x: Array, matrix: Array) -> Array:
        return use.site.apply(x, matrix)

    for a in reversed(use.around):
        apply = jax.vmap(apply, in_axes=(0, 0 if a.sliced else None))
    one = layouts.types_of_results(use.site.matrix, use.site.v)
    whole = layouts.zeros(one, [a.length for a in use.around if a.sliced])
    (matrix,) = jax.linear_transpose(lambda m: apply(x, m), whole)(d)
    return jnp.swapaxes(matrix, -1, -2) if use.turned else matrix


def matrices(use: Use, v: Array) -> Float[Array, "*layers G K N"]:
    """M of every layer, from the weight as it was in every iteration."""
    function = use.site.matrix
    for a in reversed(use.around):
        function = _of_first(function) if not a.sliced else jax.vmap(function)
    return function(v)


def _of_first(function: Callable) -> Callable:
    return lambda v: function(v[0])
