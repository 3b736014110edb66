"""Surrogate gap guided SAM."""

import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient, surrogate_gap
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import Rho, transformation
from sam_jax.transforms.point import Point


def gsam_gradient(
    point: Point,
    *,
    alpha: trees.Scalar = 0.4,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """SAM's gradient less the part that widens the gap; the options are `gsam`'s."""
    rule = ascents.normalized
    result = directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)
    direction = surrogate_gap(result.clean, result.gradient, alpha)
    return result._replace(gradient=direction)


def gsam(
    rho: Rho,
    alpha: trees.Scalar = 0.4,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SAM's gradient g_p less alpha times the part of g orthogonal to g_p (GSAM).

    Zhuang et al. 2022, Alg. 1. It also descends the surrogate gap, max L on the ball
    less L, without changing the perturbed loss to first order. The paper lets rho
    follow the learning rate: give a schedule.

    Two gradients a step.

    Args:
      rho, ascent, axis_name: as in `sam`.
      alpha: weight of the gap, >= 0; 0 is SAM. .4 is the paper's for ResNets.
      m, chunk: as in `sam`; the decomposition is of the means over groups.
    """
    return transformation(
        "gsam",
        gsam_gradient,
        rho,
        axis_name,
        alpha=alpha,
        m=m,
        chunk=chunk,
        ascent=ascent,
        init_state=directions.init_direction,
    )
