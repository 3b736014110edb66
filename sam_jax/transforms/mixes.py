"""Descent along a mix of the gradients at w and at the ascent point."""

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point


def wsam_gradient(
    point: Point,
    *,
    gamma: trees.Scalar = 0.9,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """g + gamma / (1 - gamma) (g_p - g): sharpness as a weighted penalty (WSAM).

    Yue et al. 2023 (KDD, arXiv:2305.15817), Eq. 4: gamma = 1/2 is SAM, less is nearer
    to the plain g, more goes beyond SAM's g_p. This is the coupled form, in which the
    optimiser behind sees the whole; the paper's W-SGD adds the penalty's part behind
    momentum. Two gradients a step.

    Args:
      rho, ascent, axis_name: as in `sam`.
      gamma: in [0, 1); .9 is the default of the authors' code.
      m, chunk: as in `sam`; g and g_p are the means over groups.
    """
    rule = ascents.normalized
    result = directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)
    rise = jax.tree.map(jnp.subtract, result.gradient, result.clean)
    mixed = trees.add_scaled(result.clean, gamma / (1 - gamma), rise)
    return result._replace(gradient=mixed)


def cr_sam_gradient(
    point: Point,
    *,
    trace_weight: trees.Scalar = 0.1,
    slope_weight: trees.Scalar = 0.1,
) -> Gradient:
    """g_p + a (g_p + g_n - 2 g) + b (g_p - g_n): penalties on curvature and slope.

    CR-SAM (Wu et al. 2024, AAAI, arXiv:2312.13555), as in the authors' code: g_p and
    g_n are the gradients at w + delta and w - delta, delta = rho g / |g|; the brackets
    are the gradients of finite differences of second and first order along delta. Three
    gradients a step.

    Args:
      rho, axis_name: as in `sam`.
      trace_weight, slope_weight: a and b, >= 0, gamma and beta in the authors' code. .1
        each are its defaults, .1 and .01 those of its script. Both 0 is SAM.
    """
    here = point.here()
    delta = point.perturbation(here.gradient, ascents.normalized)
    up = point.there(delta)
    down = point.there(jax.tree.map(jnp.negative, delta)).gradient

    def mix(p, n, g):
        return p + trace_weight * (p + n - 2 * g) + slope_weight * (p - n)

    wide = [trees.scale(x, 1) for x in (up.gradient, down, here.gradient)]
    mixed = trees.add(trees.zeros_like(here.gradient), jax.tree.map(mix, *wide))
    return here._replace(gradient=mixed, ascent_norm=up.ascent_norm)


wsam = make_factory("wsam", wsam_gradient, directions.init_direction)
cr_sam = make_factory("cr_sam", cr_sam_gradient)
