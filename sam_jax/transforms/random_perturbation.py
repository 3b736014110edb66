"""A random perturbation: average-case instead of worst-case noise."""

import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms.factory import Rho, transformation
from sam_jax.transforms.point import Point


def random_perturbation_gradient(
    point: Point,
    *,
    normalize: bool = True,
    m: Count | None = None,
    chunk: Count | None = None,
) -> Gradient:
    """The gradient at a point drawn from `point.key`."""
    assert point.key is not None  # the factory and the training step give one
    rule = ascent.random(point.key, normalize=normalize)
    return point.evaluate(reuse=True, rule=rule, m=m, chunk=chunk)


def random_perturbation(
    rho: Rho,
    *,
    seed: trees.Scalar = 0,
    normalize: bool = True,
    m: Count | None = None,
    chunk: Count | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient at a random point: average-case instead of worst-case noise.

    One gradient a step.

    Args:
      rho: length of the perturbation, or its standard deviation per entry.
      seed: of the directions; step t draws from fold_in(key(seed), t). A key of your
        own goes to `update(..., ascent_key=key)` instead.
      normalize: length rho exactly, otherwise independent N(0, rho^2) entries.
      m, chunk: as in `sam`; all groups share the direction.
      axis_name: as in `sam`; all devices share the direction.
    """
    return transformation(
        "random_perturbation",
        random_perturbation_gradient,
        rho,
        axis_name,
        seed=seed,
        normalize=normalize,
        m=m,
        chunk=chunk,
    )
