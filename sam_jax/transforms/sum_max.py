"""A perturbation for every group of m examples, down to single ones."""

import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.core.objective import Objective
from sam_jax.transforms.checks import check_count
from sam_jax.transforms.factory import ONE, Rho, transformation
from sam_jax.transforms.point import Point


def sum_max_gradient(
    point: Point,
    *,
    m: Count = ONE,
    normalize: bool = True,
    ascent_steps: Count = ONE,
    ascent_step_size: trees.Scalar | None = None,
    implicit: bool = True,
    chunk: Count | None = None,
) -> Gradient:
    """Mean over groups of their gradients at their own ascent points."""
    single = ascent_steps == 1 and ascent_step_size is None
    if implicit and single and isinstance(point.oracle, Objective):
        return point.evaluate_implicitly(m=m, chunk=chunk, normalize=normalize)
    return point.evaluate(
        m=m,
        rule=ascent.plain(normalize),
        ascent_steps=ascent_steps,
        ascent_step_size=ascent_step_size,
        chunk=chunk,
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

    Two gradients a step.

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
      read only for rho = 0, where it is handed on. The loss at w and what predict
      hands back beside its outputs come with the gradient from
      `sam_jax.value_and_grad(objective, rho=rho, m=m)`, at no further cost.
    """
    check_count("sum_max", "m", m)
    return transformation(
        "sum_max",
        sum_max_gradient,
        rho,
        axis_name,
        m=m,
        normalize=normalize,
        ascent_steps=ascent_steps,
        ascent_step_size=ascent_step_size,
        implicit=implicit,
        chunk=chunk,
    )
