"""The nearest point of a hyperplane in [0, 1]^d (Croce & Hein 2020b, Eq. 4).

From x a pixel i moves by min(v_i t, r_i) in the direction s_i that closes the gap: r_i
is its room up to the box, v_i its speed, 1 in l-infinity and |w_i| in l2. The gap
closed, sum_i |w_i| min(v_i t, r_i), grows with t and is linear between the times
r_i / v_i at which pixels reach the box: the time that closes the gap is found exactly,
by sorting them.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Points = Float[Array, "batch d"]
PerPoint = Float[Array, " batch"]


def step_onto(points: Points, normals: Points, values: PerPoint, norm: str) -> Points:
    """The shortest step from x onto {z in [0, 1]^d: value + <w, z - x> = 0}.

    Args:
      points: x in [0, 1]^d. normals: w. values: of the affine function at x.
      norm: linf or l2, in which the step is shortest.

    Returns: the step z - x. If the box does not reach the hyperplane, z is the corner
      of the box nearest to it; for w = 0 the step is 0.
    """
    direction = -jnp.sign(values)[:, None] * jnp.sign(normals)
    weights = jnp.abs(normals)
    rooms = jnp.where(
        direction > 0, 1 - points, jnp.where(direction < 0, points, 0)
    ).clip(0)
    speeds = jnp.ones_like(weights) if norm == "linf" else weights
    time = closing_time(weights, speeds, rooms, jnp.abs(values))
    return direction * jnp.minimum(time[:, None] * speeds, rooms)


def closing_time(
    weights: Points, speeds: Points, rooms: Points, gap: PerPoint
) -> PerPoint:
    """The least t >= 0 with sum_i weights_i min(speeds_i t, rooms_i) >= gap.

    The time of the last pixel's stop where no t is enough.
    """
    moving = weights * speeds > 0
    stops = jnp.where(moving, rooms / jnp.where(moving, speeds, 1), 0)
    order = jnp.argsort(stops, axis=1)
    sorted_stops = jnp.take_along_axis(stops, order, axis=1)
    slopes = jnp.take_along_axis(weights * speeds, order, axis=1)
    full = jnp.take_along_axis(weights * rooms, order, axis=1)
    # At the k-th stop the pixels before it are at the box and the others still move.
    stopped = jnp.cumsum(full, axis=1) - full
    slope = jnp.cumsum(slopes[:, ::-1], axis=1)[:, ::-1]
    closed = stopped + slope * sorted_stops
    k = jnp.sum(closed < gap[:, None], axis=1)
    d = weights.shape[1]
    at = jnp.minimum(k, d - 1)[:, None]
    rest = gap[:, None] - jnp.take_along_axis(stopped, at, axis=1)
    rate = jnp.take_along_axis(slope, at, axis=1)
    time = rest / jnp.maximum(rate, jnp.finfo(rate.dtype).tiny)
    last = sorted_stops[:, -1]
    return jnp.where(k < d, jnp.clip(time[:, 0], 0, last), last)
