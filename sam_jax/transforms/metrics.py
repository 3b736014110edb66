"""Other balls than the l2 ball of radius rho: metrics, masks, radii of their own.

Stateless rules work for groups of m examples as `sam`'s does; the rules with a state
(`light_sam`, `sparse_sam`) have one for the whole batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms.directions import (
    Average,
    climb_along,
    init_direction,
    start_average,
    update_average,
)
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


def fisher_sam_gradient(
    point: Point,
    *,
    fisher_weight: trees.Scalar = 1.0,
    m: Count | None = None,
    chunk: Count | None = None,
) -> Gradient:
    """The gradient at w + rho F^-1 g / sqrt(g^T F^-1 g), F = 1 + fisher_weight g^2.

    Fisher SAM (Kim et al. 2022, ICML, arXiv:2206.04920): a ball in the metric of the
    diagonal Fisher information, for which squares of the batch's gradient stand, as in
    the paper. Two gradients a step.

    Args:
      rho, m, chunk, axis_name: as in `sam`.
      fisher_weight: the paper's eta, >= 0; 0 is SAM.
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        del params
        root = jnp.sqrt(fisher_weight)
        # By hypot, since squares of large gradients overflow.
        sizes = jax.tree.map(lambda g: jnp.hypot(1, root * trees.widen(g)), gradient)
        whitened = jax.tree.map(jnp.divide, trees.scale(gradient, 1), sizes)
        return jax.tree.map(jnp.divide, ascent.normalized(whitened, None, rho), sizes)

    return point.evaluate(reuse=True, rule=rule, m=m, chunk=chunk)


def zsharp_gradient(
    point: Point,
    *,
    quantile: trees.Scalar = 0.95,
    m: Count | None = None,
    chunk: Count | None = None,
) -> Gradient:
    """SAM along the entries of g that stand out in their leaf (ZSharp).

    Yun 2025 (arXiv:2505.02369): of a leaf, entries with |z| below its `quantile` are
    left out of the ascent, z = (g - mean) / deviation within the leaf. As in the
    author's code leaves of one axis stay whole. That code gives every leaf a
    perturbation of length rho; here it is all together. Two gradients a step.

    Args:
      rho, m, chunk, axis_name: as in `sam`.
      quantile: part of the entries left out, in [0, 1); 0 is SAM.
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        # The deviation is one for a leaf, and changes no order within it.
        scores = jax.tree.map(lambda g: jnp.abs(_less_mean(g)), gradient)
        least = trees.least_of_largest(scores, 1 - quantile, each=True)

        def outstanding(g: jax.Array, score: jax.Array, least: jax.Array) -> jax.Array:
            return g if g.ndim < 2 else jnp.where(score >= least, g, 0)

        filtered = jax.tree.map(outstanding, gradient, scores, least)
        return ascent.normalized(filtered, params, rho)

    return point.evaluate(reuse=True, rule=rule, m=m, chunk=chunk)


def gcsam_gradient(
    point: Point, *, m: Count | None = None, chunk: Count | None = None
) -> Gradient:
    """SAM along the centred gradient: of each kernel less its mean for every output.

    GCSAM (Hassan et al. 2025, arXiv:2501.11584). Means are over all axes but the last,
    the outputs of a kernel; leaves of one axis stay. The paper centres the descent's
    gradient, too: that is a link of its own behind this one. Two gradients a step.

    Args:
      rho, m, chunk, axis_name: as in `sam`.
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        centred = jax.tree.map(_centred, gradient)
        return ascent.normalized(centred, params, rho)

    return point.evaluate(reuse=True, rule=rule, m=m, chunk=chunk)


def le_sam_gradient(
    point: Point,
    *,
    budget: trees.Scalar = 0.1,
    m: Count | None = None,
    chunk: Count | None = None,
) -> Gradient:
    """SAM of the radius min(budget / |g|, rho), at which the loss rises by the budget.

    LE-SAM (Wang et al. 2026, ICML, arXiv:2605.10183): the linearised rise of the loss
    is equal in all steps, instead of the radius. The paper lets the budget fall to 0
    in the last epochs; here it is constant. Two gradients a step.

    Args:
      rho: largest radius, >= 0, or a schedule.
      budget: rise of the mean loss, in its units, >= 0.
      m, chunk, axis_name: as in `sam`.
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        length = trees.norm(gradient)
        radius = jnp.minimum(budget * trees.reciprocal(length), rho)
        return ascent.normalized(gradient, params, radius)

    return point.evaluate(reuse=True, rule=rule, m=m, chunk=chunk)


def over_all_steps() -> optax.GradientTransformation:
    """g / sqrt(sum of |g|^2 of all steps up to this one) (AdaGrad-Norm).

    State: that root, f[].
    """

    def update(gradient, state, params=None):
        del params
        length = trees.norm(gradient)
        total = jnp.hypot(state, length).astype(state.dtype)
        share = length * trees.reciprocal(total)
        return trees.scale(trees.unit(gradient), share), total

    return optax.GradientTransformation(
        lambda params: trees.norm(trees.zeros_like(params)), update
    )


def light_sam_gradient(point: Point) -> Gradient:
    """The gradient at w + rho g_t / sqrt(sum_{s <= t} |g_s|^2) (LightSAM).

    Cheng et al. 2025 (arXiv:2505.24399), the AdaGrad-Norm form, for which any rho will
    do. Its descent by AdaGrad-Norm is left to the optimiser behind. The first step is
    SAM's. Two gradients a step.

    Args:
      rho, axis_name: as in `sam`.
    """
    return climb_along(point, over_all_steps(), ascent.unnormalized)


def init_light(params: Tree, **_: Any) -> Tree:
    """The state of `light_sam`."""
    return init_direction(params, ascent=over_all_steps())


def where_curved(
    sparsity: trees.Scalar, decay: trees.Scalar
) -> optax.GradientTransformation:
    """g / |g| where the average of the squares of g is largest; zero elsewhere."""

    def update(gradient, state, params=None):
        del params
        squares = jax.tree.map(lambda g: jnp.square(trees.widen(g)), gradient)
        state = update_average(state, squares, decay)
        least = trees.least_of_largest(state.mean, 1 - sparsity)
        direction = jax.tree.map(
            lambda g, square: jnp.where(trees.widen(square) >= least, g, 0),
            trees.unit(gradient),
            state.mean,
        )
        return direction, state

    return optax.GradientTransformation(start_average, update)


def sparse_sam_gradient(
    point: Point, *, sparsity: trees.Scalar = 0.5, decay: trees.Scalar = 0.9
) -> Gradient:
    """SAM that perturbs the parameters of largest Fisher information (SSAM-F).

    Mi et al. 2022 (NeurIPS, arXiv:2210.05177): delta = rho g / |g|, of which the part
    `sparsity` is set to 0; the rest is no longer for it. The Fisher information is the
    moving average of squares of the batches' gradients, and the mask follows it in
    every step; the authors' code takes squares of single examples' gradients, once in
    so many epochs. Two gradients a step.

    Args:
      rho, axis_name: as in `sam`.
      sparsity: part of the parameters that stay, in [0, 1); 0 is SAM.
      decay: of the average, in [0, 1).
    """
    return climb_along(point, where_curved(sparsity, decay), ascent.unnormalized)


def init_squares(params: Tree, **_: Any) -> Average:
    """The state of `sparse_sam`."""
    return init_direction(params, ascent=where_curved(0.5, 0.9))


def _centred(leaf: jax.Array) -> jax.Array:
    """The leaf less its mean over all axes but the last; vectors as they are."""
    if leaf.ndim < 2:
        return trees.widen(leaf)
    return _less_mean(leaf, tuple(range(leaf.ndim - 1)))


def _less_mean(leaf: jax.Array, axes: tuple[int, ...] | None = None) -> jax.Array:
    """The leaf less its mean over some axes, or all."""
    wide = trees.widen(leaf)
    return wide - jnp.mean(wide, axes, keepdims=True)


fisher_sam = make_factory("fisher_sam", fisher_sam_gradient)
zsharp = make_factory("zsharp", zsharp_gradient)
gcsam = make_factory("gcsam", gcsam_gradient)
le_sam = make_factory("le_sam", le_sam_gradient)
light_sam = make_factory("light_sam", light_sam_gradient, init_light)
sparse_sam = make_factory("sparse_sam", sparse_sam_gradient, init_squares)
