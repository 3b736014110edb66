"""The ablation of Table 1: SAM's direction alone, SAM's loss derivative alone.

For one example the gradient of loss(outputs(w)) is J(w)^T u(w), the network's Jacobian
(the direction) applied to the loss derivative u = d loss / d outputs. SAM moves both to
the ascent point; these two transforms move one. Any number of classes.
"""

from typing import Any

import optax

from sam_jax.core.groups import Count
from sam_jax.transforms.common import Rho, check_count, rule, sharpness_aware


def sam_direction(
    rho: Rho,
    m: Count | None = None,
    *,
    normalize: bool = True,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """J(w + delta)^T u(w): only the direction comes from the ascent point (Table 1).

    Args:
      rho, normalize, axis_name: as in `sam`.
      m, chunk: as in `sum_max`; None puts the whole batch into one group.

    Returns: transformation; `update` needs `params`, `batch` and `objective`.
    """
    options = {"m": m, "chunk": chunk, "axis_name": axis_name}
    return _swap("sam_direction", rho, normalize, swap="direction", **options)


def sam_derivative(
    rho: Rho,
    m: Count | None = None,
    *,
    normalize: bool = True,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """J(w)^T u(w + delta): only the loss derivative comes from the ascent point.

    Table 1. Arguments and returns as for `sam_direction`. The penalty's gradient is
    taken where the Jacobian is.
    """
    options = {"m": m, "chunk": chunk, "axis_name": axis_name}
    return _swap("sam_derivative", rho, normalize, swap="derivative", **options)


def _swap(
    name: str, rho: Rho, normalize: bool, **options: Any
) -> optax.GradientTransformationExtraArgs:
    check_count(name, "m", options["m"], optional=True)
    check_count(name, "chunk", options["chunk"], optional=True)
    return sharpness_aware(
        name, rho, lambda context: context.evaluate(rule=rule(normalize), **options)
    )
