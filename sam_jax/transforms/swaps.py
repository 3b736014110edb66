"""The ablation of Table 1: SAM's direction alone, SAM's loss derivative alone.

For one example the gradient of loss(outputs(w)) is J(w)^T u(w), the network's Jacobian
(the direction) applied to the loss derivative u = d loss / d outputs. SAM moves both to
the ascent point; these two transforms move one. Any number of classes.
"""

import functools

import optax

from sam_jax.core import ascent
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.core.objective import Objective
from sam_jax.transforms.factory import Rho, transformation
from sam_jax.transforms.point import Point


def _swapped(
    swap: str,
    point: Point,
    *,
    m: Count | None = None,
    normalize: bool = True,
    implicit: bool = True,
    chunk: Count | None = None,
) -> Gradient:
    if implicit and m is not None and isinstance(point.oracle, Objective):
        return point.evaluate_implicitly(
            m=m, chunk=chunk, normalize=normalize, swap=swap
        )
    rule = ascent.plain(normalize)
    return point.evaluate(swap=swap, rule=rule, m=m, chunk=chunk)


# The direction from the ascent point and the loss derivative from w; the opposite.
sam_direction_gradient = functools.partial(_swapped, "direction")
sam_derivative_gradient = functools.partial(_swapped, "derivative")


def sam_direction(
    rho: Rho,
    m: Count | None = None,
    *,
    normalize: bool = True,
    implicit: bool = True,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """J(w + delta)^T u(w): only the direction comes from the ascent point (Table 1).

    The same rule is Functional-SAM (arXiv:2502.02407), which helps language models
    where plain SAM does not, and J-SAM (arXiv:2405.03676, there with m = 1).

    Two gradients a step.

    Args:
      rho, normalize, axis_name: as in `sam`.
      m, implicit, chunk: as in `sum_max`; m = None puts the whole batch into one group.

    Returns: transformation; `update` needs `params`, `batch` and `objective`.
    """
    return transformation(
        "sam_direction",
        sam_direction_gradient,
        rho,
        axis_name,
        m=m,
        normalize=normalize,
        implicit=implicit,
        chunk=chunk,
    )


def sam_derivative(
    rho: Rho,
    m: Count | None = None,
    *,
    normalize: bool = True,
    implicit: bool = True,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """J(w)^T u(w + delta): only the loss derivative comes from the ascent point.

    Table 1. Arguments and returns as for `sam_direction`. The penalty's gradient is
    taken where the Jacobian is.
    Two gradients a step.
    """
    return transformation(
        "sam_derivative",
        sam_derivative_gradient,
        rho,
        axis_name,
        m=m,
        normalize=normalize,
        implicit=implicit,
        chunk=chunk,
    )
