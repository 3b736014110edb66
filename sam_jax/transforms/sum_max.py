"""A perturbation for every group of m examples, down to single ones."""

import optax

from sam_jax.core import trees
from sam_jax.core.groups import Count
from sam_jax.core.implicit import gradient
from sam_jax.core.objective import Objective
from sam_jax.transforms.common import (
    ONE,
    Context,
    Rho,
    check_count,
    check_rho,
    rule,
    sharpness_aware,
)


def sum_max(
    rho: Rho,
    m: Count = ONE,
    *,
    normalize: bool = True,
    ascent_steps: Count = ONE,
    ascent_step_size: trees.Scalar | None = None,
    implicit: bool = True,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Mean over groups of m consecutive examples of grad L_J at the group's own ascent
    point, w + rho grad L_J(w) / |grad L_J(w)| (SumMax, Eq. 2 and 3; m-sharpness).

    Args:
      rho, normalize, ascent_steps, ascent_step_size: as in `sam`, for every group.
      m: examples of the global batch that share a perturbation; it does not depend on
        the number of devices. m must divide the batch; 1 is Eq. 2.
      implicit: given an `objective`, and a single ascent step of the default size, hold
        no perturbed weights (see `sam_jax.implicit_gradient`): about the price of plain
        SAM. Otherwise, or with a bare grad_fn, vmap over groups holds a copy for each.
      chunk: groups worked on at once. Less memory, more time; None for all at once.
      axis_name: as in `sam`.

    Returns: transformation; `update` needs what `sam` needs. The incoming gradient is
      read only for rho = 0, where it is handed on.
    """
    check_count("sum_max", "m", m)
    check_count("sum_max", "ascent_steps", ascent_steps)
    check_count("sum_max", "chunk", chunk, optional=True)
    if ascent_step_size is not None:
        check_rho("sum_max", ascent_step_size)

    def compute(context: Context):
        single = ascent_steps == 1 and ascent_step_size is None
        if implicit and single and isinstance(context.oracle, Objective):
            return gradient(
                context.oracle,
                context.params,
                context.batch,
                rho=context.rho,
                m=m,
                normalize=normalize,
                chunk=chunk,
                mask=context.mask,
                axis_name=axis_name,
            )
        return context.evaluate(
            m=m,
            rule=rule(normalize),
            ascent_steps=ascent_steps,
            ascent_step_size=ascent_step_size,
            chunk=chunk,
            axis_name=axis_name,
        )

    return sharpness_aware("sum_max", rho, compute)
