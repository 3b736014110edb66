"""Balls of perturbations in the l-infinity and l2 norms, and images in [0, 1].

Images x are [B, ...]; the norm of a perturbation is taken over all axes but the first.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Images = Float[Array, "batch ..."]
PerImage = Float[Array, " batch"]
Scalar = Float[Array, ""] | float
TINY = 1e-12


class Norm(NamedTuple):
    """A norm and what an attack needs of its ball; eps is the radius.

    length: [B, ...] -> [B].
    direction: gradient -> the direction of length 1 that ascends most; 0 for 0.
    project: (delta, eps) -> nearest point of the ball.
    inside: (key, like, eps) -> uniform in the ball.
    boundary: (key, like, eps) -> random, of length eps.
    """

    length: Callable[..., PerImage]
    direction: Callable[..., Images]
    project: Callable[..., Images]
    inside: Callable[..., Images]
    boundary: Callable[..., Images]


def wide(
    values: Shaped[Array, " batch"], like: Shaped[Array, "batch ..."]
) -> Shaped[Array, "batch ..."]:
    """[B] as [B, 1, ...], to go with [B, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def into_ball(images: Images, center: Images, eps: Scalar, norm: str) -> Images:
    """The point of the ball around `center`, then of [0, 1]^d, nearest to `images`.

    Clipping brings every pixel closer to a center in [0, 1]^d: it stays in the ball.
    """
    return jnp.clip(center + NORMS[norm].project(images - center, eps), 0, 1)


def _linf_length(delta: Images) -> PerImage:
    return jnp.max(jnp.abs(delta), axis=_axes(delta))


def _linf_project(delta: Images, eps: Scalar) -> Images:
    return jnp.clip(delta, -eps, eps)


def _linf_inside(key: Array, like: Images, eps: Scalar) -> Images:
    return eps * jax.random.uniform(key, like.shape, like.dtype, -1, 1)


def _linf_boundary(key: Array, like: Images, eps: Scalar) -> Images:
    delta = _linf_inside(key, like, 1.0)
    return eps * delta / wide(_linf_length(delta), like)


def _l2_length(delta: Images) -> PerImage:
    return jnp.sqrt(jnp.sum(delta**2, axis=_axes(delta)))


def _l2_direction(gradient: Images) -> Images:
    # By the largest entry first: squares of a tiny gradient would vanish.
    largest = wide(_linf_length(gradient), gradient)
    scaled = gradient / jnp.where(largest > 0, largest, 1)
    length = wide(_l2_length(scaled), gradient)
    return scaled / jnp.where(length > 0, length, 1)


def _l2_project(delta: Images, eps: Scalar) -> Images:
    length = wide(_l2_length(delta), delta)
    return delta * jnp.minimum(1, eps / jnp.maximum(length, TINY))


def _l2_boundary(key: Array, like: Images, eps: Scalar) -> Images:
    return eps * _l2_direction(jax.random.normal(key, like.shape, like.dtype))


def _l2_inside(key: Array, like: Images, eps: Scalar) -> Images:
    direction_key, radius_key = jax.random.split(key)
    radius = jax.random.uniform(radius_key, like.shape[:1], like.dtype)
    radius = radius ** (1 / like[0].size)
    return _l2_boundary(direction_key, like, eps) * wide(radius, like)


def _axes(images: Images) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


NORMS = {
    "linf": Norm(_linf_length, jnp.sign, _linf_project, _linf_inside, _linf_boundary),
    "l2": Norm(_l2_length, _l2_direction, _l2_project, _l2_inside, _l2_boundary),
}
