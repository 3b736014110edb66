"""When to ascend, by the gradient itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.ops import loops
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


class Moments(NamedTuple):
    """mean, variance: moving averages of |g|^2 and of its squared deviation, f[]."""

    mean: jax.Array
    variance: jax.Array


def init_moments(params: Tree, **_: Any) -> Moments:
    """The state of `ae_sam`."""
    zero = trees.norm(trees.zeros_like(params))
    return Moments(zero, zero)


def ae_sam_gradient(
    point: Point, *, threshold: trees.Scalar = 0.0, decay: trees.Scalar = 0.9
) -> Gradient:
    """SAM's gradient in steps of a large gradient, the plain one in others (AE-SAM).

    Jiang et al. 2023 (ICLR, arXiv:2304.14647), Alg. 1: SAM where |g|^2 >= mu +
    threshold * sigma, with mu and sigma^2 the moving averages of |g|^2 and of (|g|^2 -
    mu)^2, both 0 at first. The paper moves the threshold linearly from 1 to -1 over the
    run; here it is constant. One or two gradients a step; on CPU with convolutions two,
    since compiled branches are slow there.

    Args:
      rho, axis_name: as in `sam`.
      threshold: c, any finite number; 0 ascends in about half of the steps.
      decay: of the averages, in [0, 1).
    """
    here = point.here()
    square = trees.dot(here.gradient, here.gradient)
    mean, variance = point.state
    mean = decay * mean + (1 - decay) * square
    variance = decay * variance + (1 - decay) * jnp.square(square - mean)
    steep = square >= mean + threshold * jnp.sqrt(variance)

    def sharp(gradient: Tree) -> tuple[Tree, jax.Array]:
        result = point.climb(here, gradient)
        return result.gradient, result.ascent_norm.astype(square.dtype)

    def plain(gradient: Tree) -> tuple[Tree, jax.Array]:
        return gradient, jnp.zeros_like(square)

    if loops.are_slow_with(sharp, here.gradient):
        pair = sharp(here.gradient), plain(here.gradient)
        gradient, length = jax.tree.map(lambda a, b: jnp.where(steep, a, b), *pair)
    else:
        gradient, length = jax.lax.cond(steep, sharp, plain, here.gradient)
    state = jax.tree.map(
        lambda new, old: new.astype(old.dtype), Moments(mean, variance), point.state
    )
    return here._replace(gradient=gradient, ascent_norm=length, state=state)


ae_sam = make_factory("ae_sam", ae_sam_gradient, init_moments)
