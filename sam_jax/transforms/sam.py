"""SAM on the whole batch, and its ascent on another batch."""

import optax

from sam_jax.core import trees
from sam_jax.core.groups import Count
from sam_jax.transforms.common import (
    ONE,
    Context,
    Rho,
    check_count,
    check_rho,
    rule,
    sharpness_aware,
)


def sam(
    rho: Rho,
    *,
    normalize: bool = True,
    ascent_steps: Count = ONE,
    ascent_step_size: trees.Scalar | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the gradient at w by the gradient at w + rho g / |g|, on the same batch.

    Foret et al. 2021; the paper's Eq. 5 and 20, and Eq. 18 without the normalisation.
    g is the gradient that comes down the chain: clipping it first changes an
    unnormalised perturbation, clipping behind `sam` what is descended. Weight decay and
    momentum belong behind it, and so does `optax.MultiSteps`.

    Args:
      rho: ascent radius in parameter units, >= 0, or a schedule; 0 is the plain step.
      normalize: divide by the l2 norm over all leaves, otherwise step by rho g.
      ascent_steps: number of ascent steps, each one gradient.
      ascent_step_size: length of an ascent step, default rho; with several steps or a
        size of its own the perturbation is projected on the l2 ball of radius rho.
      axis_name: mapped device axis over which a global batch is spread; grad_fn then
        returns its own device's mean. Without it, devices perturb on their own.

    Returns: transformation; `update` needs `params`, `batch`, and `grad_fn(params,
      batch)` or `objective`. State: `SamState`.

    Raises: ValueError for a negative rho, or when `update` lacks one of its arguments.
    """
    check_count("sam", "ascent_steps", ascent_steps)
    if ascent_step_size is not None:
        check_rho("sam", ascent_step_size)

    def compute(context: Context):
        return context.evaluate(
            rule=rule(normalize),
            ascent_steps=ascent_steps,
            ascent_step_size=ascent_step_size,
            clean=context.gradient,
            axis_name=axis_name,
        )

    return sharpness_aware("sam", rho, compute)


def max_sum(
    rho: Rho, *, normalize: bool = True, axis_name: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """SAM whose ascent uses another batch than its descent (MaxSum, Eq. 1, 3, 19).

    w + rho grad L_A(w) / |grad L_A(w)| with A the `ascent_batch`: the full training set
    for Eq. 1, an independent batch J_t for the stochastic Eq. 19.

    Args:
      rho, normalize, axis_name: as in `sam`.

    Returns: transformation; `update` needs `ascent_batch` beside what `sam` needs. The
      incoming gradient is read only for rho = 0.
    """

    def compute(context: Context):
        if context.ascent_batch is None:
            raise ValueError(
                "max_sum received no ascent_batch; pass update(..., ascent_batch=): "
                "the batch to ascend on (all training data for Eq. 1), or use sam."
            )
        return context.evaluate(
            rule=rule(normalize),
            ascent_batch=context.ascent_batch,
            axis_name=axis_name,
        )

    return sharpness_aware("max_sum", rho, compute)
