"""Surrogate gap guided SAM."""

import optax

from sam_jax.core import ascent, groups, trees
from sam_jax.core.gradient import surrogate_gap
from sam_jax.transforms.common import Context, Rho, check_number, sharpness_aware


def gsam(
    rho: Rho, alpha: trees.Scalar = 0.4, *, axis_name: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """SAM's gradient g_p less alpha times the part of g orthogonal to g_p (GSAM).

    Zhuang et al. 2022, Alg. 1. It also descends the surrogate gap, max L on the ball
    less L, without changing the perturbed loss to first order. The paper lets rho
    follow the learning rate: give a schedule.

    Args:
      rho, axis_name: as in `sam`.
      alpha: weight of the gap, >= 0; 0 is SAM. .4 is the paper's for ResNets.
    """
    check_number("gsam", "alpha", alpha)

    def compute(context: Context):
        clean = context.gradient
        if axis_name is not None:
            clean = groups.device_mean(clean, axis_name)
        result = context.evaluate(
            rule=ascent.normalized, clean=clean, axis_name=axis_name
        )
        gradient = surrogate_gap(clean, result.gradient, alpha)
        return result._replace(gradient=gradient)

    return sharpness_aware("gsam", rho, compute)
