"""SAM whose step is as long as the plain one."""

import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import Rho, transformation
from sam_jax.transforms.point import Point


def stable_sam_gradient(
    point: Point,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """SAM's gradient at the length of the plain one; the options are `stable_sam`'s."""
    rule = ascents.normalized
    result = directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)
    direction = trees.scale(trees.unit(result.gradient), trees.norm(result.clean))
    return result._replace(gradient=direction)


def stable_sam(
    rho: Rho,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """g_p |g| / |g_p|: the direction of SAM's gradient g_p, the length of the plain g.

    Stable SAM (Tan et al. 2025, JMLR 26, arXiv:2401.07250): where g_p is much longer
    than g, as near a saddle or at a large learning rate, SAM is unstable and this is
    not. A zero g or g_p gives a zero step.

    Two gradients a step.

    Args:
      rho, ascent, axis_name: as in `sam`.
      m, chunk: as in `sam`; g and g_p are the means over groups.
    """
    return transformation(
        "stable_sam",
        stable_sam_gradient,
        rho,
        axis_name,
        m=m,
        chunk=chunk,
        ascent=ascent,
        init_state=directions.init_direction,
    )
