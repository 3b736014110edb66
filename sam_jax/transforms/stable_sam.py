"""SAM whose step is as long as the plain one."""

import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point


def stable_sam_gradient(
    point: Point,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """g_p |g| / |g_p|: the direction of SAM's gradient g_p, the length of the plain g.

    Stable SAM (Tan et al. 2025, JMLR 26, arXiv:2401.07250): where g_p is much longer
    than g, as near a saddle or at a large learning rate, SAM is unstable and this is
    not. A zero g or g_p gives a zero step.

    Two gradients a step.

    Args:
      rho, ascent, axis_name: as in `sam`.
      m, chunk: as in `sam`; g and g_p are the means over groups.
    """
    rule = ascents.normalized
    result = directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)
    direction = trees.scale(trees.unit(result.gradient), trees.norm(result.clean))
    return result._replace(gradient=direction)


stable_sam = make_factory("stable_sam", stable_sam_gradient, directions.init_direction)
