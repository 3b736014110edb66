"""SAM whose ascent uses another batch than its descent."""

import optax

from sam_jax.core import ascent
from sam_jax.core.gradient import Gradient
from sam_jax.transforms.factory import Rho, transformation
from sam_jax.transforms.point import Point


def max_sum_gradient(point: Point, *, normalize: bool = True) -> Gradient:
    """The gradient on the batch at the ascent point of the ascent batch."""
    if point.ascent_batch is None:
        raise ValueError(
            "max_sum received no ascent_batch; pass update(..., ascent_batch=): "
            "the batch to ascend on (all training data for Eq. 1), or use sam."
        )
    return point.evaluate(rule=ascent.plain(normalize), ascent_batch=point.ascent_batch)


def max_sum(
    rho: Rho, *, normalize: bool = True, axis_name: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """The gradient at w + rho grad L_A(w) / |grad L_A(w)|, A the `ascent_batch`.

    MaxSum, Eq. 1, 3 and 19: A is the full training set for Eq. 1, an independent batch
    J_t for the stochastic Eq. 19.

    Two gradients a step, one of each batch.

    Args:
      rho, normalize, axis_name: as in `sam`.

    Returns: transformation; `update` needs `ascent_batch` beside what `sam` needs. The
      incoming gradient is read only for rho = 0.
    """
    return transformation(
        "max_sum", max_sum_gradient, rho, axis_name, normalize=normalize
    )
