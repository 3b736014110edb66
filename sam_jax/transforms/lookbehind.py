"""Several ascent steps, and descent along the gradients of all of them."""

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms.factory import DefaultCount, make_factory
from sam_jax.transforms.point import Point

TWO = DefaultCount(2)


def lookbehind_sam_gradient(
    point: Point, *, back_steps: Count = TWO, interpolation: trees.Scalar = 0.5
) -> Gradient:
    """interpolation * (g_1 + ... + g_k), g_i the gradient after i ascent steps.

    Lookbehind-SAM (Mordido et al. 2024, ICML, arXiv:2307.16704), Alg. 1: each ascent
    step has the length rho along the gradient where it starts, g_0 at w, and all of
    them are descended from w, of which the part `interpolation` is kept, a constant:
    the paper has an adaptive one, too. The inner descents are plain steps; the
    optimiser behind takes their sum as its gradient.
    back_steps + 1 gradients a step.

    Args:
      rho, axis_name: as in `sam`.
      back_steps: k, >= 1. interpolation: the paper's alpha, in (0, 1]. 1 and 1 is SAM.
    """
    here = point.here()
    slope, delta = here.gradient, trees.zeros_like(point.params)
    total = trees.scale(here.gradient, 0)
    for _ in range(int(back_steps)):
        step = point.perturbation(slope, ascent.normalized)
        delta = jax.tree.map(jnp.add, delta, step)
        there = point.there(delta)
        slope = there.gradient
        total = jax.tree.map(jnp.add, total, trees.scale(slope, interpolation))
    gradient = trees.add(trees.zeros_like(here.gradient), total)
    return here._replace(gradient=gradient, ascent_norm=trees.norm(delta))


lookbehind_sam = make_factory("lookbehind_sam", lookbehind_sam_gradient)
