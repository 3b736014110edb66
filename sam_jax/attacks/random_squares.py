"""The random squares of `square` (Andriushchenko et al. 2020, Algorithms 2 and 3).

Images are [B, height, width, channels]. The side of a square is known only at run time,
so that one program serves all sides: squares are masks over the image.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sam_jax.attacks import geometry
from sam_jax.attacks.geometry import TINY, Images, Scalar
from sam_jax.checks import Number

# Queries after which the share of changed pixels is halved (Sec. 4.1).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
TILES = 5  # of the l2 start, along each side
Maps = Float[Array, "batch height width 1"]
Places = Int[Array, "batch height width"]
Count = Int[Array, ""] | int


def check_shape(images: Images, norm: str) -> None:
    """Squares need images; those of l2, at least TILES pixels on a side."""
    least = TILES if norm == "l2" else 1
    if images.ndim != 4 or min(images.shape[1:3]) < least:
        raise ValueError(
            f"Received images of shape {images.shape}; square in {norm} takes [batch, "
            f"height, width, channels] with height and width at least {least}."
        )


def side(query: int, p_init: Number, shape: tuple[int, ...], norm: str) -> int:
    """Side of the square: p height width pixels, p halved after HALVINGS queries.

    In l2 odd and 3 at least, for the pattern to have a middle.
    """
    height, width = shape[1:3]
    p = p_init / 2 ** sum(query > halving for halving in HALVINGS)
    pixels = max(round((p * height * width) ** 0.5), 3 if norm == "l2" else 1)
    if norm == "l2" and pixels % 2 == 0:
        pixels += 1
    return min(pixels, height, width)


def start(key: Array, images: Images, eps: Scalar, norm: str) -> Images:
    """linf: vertical stripes of +-eps. l2: a grid of random patterns, of length eps."""
    if norm == "linf":
        count, _, width, channels = images.shape
        stripes = _signs(key, (count, 1, width, channels), images)
        return jnp.clip(images + eps * stripes, 0, 1)
    return _of_length(images, _tiles(key, images), eps)


def proposal(
    key: Array,
    points: Images,
    images: Images,
    eps: Scalar,
    side: Count,
    norm: str,
    cover: bool,
) -> Images:
    """Points with a random square changed, in the ball and in [0, 1].

    Args:
      cover: whether squares reach the last row and column.
    """
    rule = {"linf": _linf_proposal, "l2": _l2_proposal}[norm]
    return rule(key, points, images, eps, side, cover)


def _linf_proposal(
    key: Array, points: Images, images: Images, eps: Scalar, side: Count, cover: bool
) -> Images:
    """One of the corners +-eps in every channel of the square (Algorithm 2)."""
    place, sign = jax.random.split(key)
    inside = _window(*_offsets(place, images, side, cover), side)
    signs = _signs(sign, (len(images), 1, 1, images.shape[3]), images)
    return geometry.into_ball(points + 2 * eps * signs * inside, images, eps, "linf")


def _l2_proposal(
    key: Array, points: Images, images: Images, eps: Scalar, side: Count, cover: bool
) -> Images:
    """Moves the length spent in a second square into the first (Algorithm 3).

    The first gets its old content plus a random pattern, with the length of both
    squares and a channel's share of what is left of eps.
    """
    place, other, sign, turn = jax.random.split(key, 4)
    delta = points - images
    rows, columns = _offsets(place, images, side, cover)
    first = _window(rows, columns, side)
    second = _window(*_offsets(other, images, side, cover), side)
    left = jnp.maximum(eps**2 - geometry.NORMS["l2"].length(delta) ** 2, 0)
    spent = _length(delta * (first | second))
    available = jnp.sqrt(spent**2 + geometry.wide(left, delta) / images.shape[3])
    signs = _signs(sign, (len(images), 1, 1, images.shape[3]), images)
    old = delta * first
    new = old / (_length(old) + TINY)
    new = new + signs * _turned(turn, rows, columns, side, images)
    new = new / (_length(new) + TINY) * available
    return _of_length(images, delta * ~(first | second) + new, eps)


def pattern(rows: Places, columns: Places, side: Count) -> Float[Array, "..."]:
    """The l2 pattern eta at places of a square, of length 1 (Eq. 2 and 3).

    A bump in the upper half and its negative in the lower half; 0 outside.
    """
    upper = side // 2
    top = _bump(rows, columns, upper, side)
    bottom = _bump(rows - upper, columns, side - upper, side)
    both = top / (_length(top, (1, 2)) + TINY) - bottom / (
        _length(bottom, (1, 2)) + TINY
    )
    return both / (_length(both, (1, 2)) + TINY)


def _bump(rows: Places, columns: Places, height: Count, width: Count) -> Any:
    """sum_{k >= d} 1 / (k + 1)^2 up to the rectangle's edge, at distance d of its
    middle; distances are the larger of those along rows and columns."""
    inside = _within(rows, height) & _within(columns, width)
    distance = jnp.maximum(jnp.abs(rows - height // 2), jnp.abs(columns - width // 2))
    most = rows.shape[1] + rows.shape[2]
    sums = jnp.asarray(np.cumsum([0, *(1 / np.arange(1.0, most + 1) ** 2)]), float)
    last = jnp.maximum(height // 2, width // 2) + 1
    return jnp.where(inside, sums[last] - sums[jnp.minimum(distance, last)], 0)


def _tiles(key: Array, images: Images) -> Images:
    """A pattern with a random sign and turn in every tile."""
    count, height, width, channels = images.shape
    size = min(height, width) // TILES
    sign, turn = jax.random.split(key)
    row, column = (
        np.arange(pixels) - (pixels - TILES * size) // 2 for pixels in (height, width)
    )
    grid = (count, height // size + 1, width // size + 1)
    signs = _signs(sign, (*grid, channels), images)
    turned = jax.random.bernoulli(turn, 0.5, grid)
    whole = np.ix_(np.maximum(row, 0) // size, np.maximum(column, 0) // size)
    inside = np.outer(row >= 0, column >= 0)[None, :, :, None]
    upright, lying = (_tile_pattern(size, turned) for turned in (False, True))
    at = np.ix_(row % size, column % size)
    chosen = jnp.where(turned[:, *whole], lying[at], upright[at])[..., None]
    return jnp.asarray(inside) * signs[:, *whole] * chosen.astype(images.dtype)


def _tile_pattern(size: int, turned: bool) -> Array:
    rows, columns = jnp.mgrid[:size, :size][:, None]
    if turned:
        rows, columns = columns, rows
    return pattern(rows, columns, size)[0]


def _turned(
    key: Array, rows: Places, columns: Places, side: Count, images: Images
) -> Maps:
    """The pattern at these places, upright or lying at random."""
    lying = jax.random.bernoulli(key, 0.5, (len(rows), 1, 1))
    values = pattern(
        jnp.where(lying, columns, rows), jnp.where(lying, rows, columns), side
    )
    return values[..., None].astype(images.dtype)


def _offsets(
    key: Array, images: Images, side: Count, cover: bool
) -> tuple[Places, Places]:
    """Row and column of every pixel, counted from a random corner, for each image."""
    count, height, width, _ = images.shape
    places = []
    for k, pixels, shape in zip(
        jax.random.split(key), (height, width), ((-1, 1), (1, -1)), strict=True
    ):
        choices = jnp.maximum(pixels - side + cover, 1)
        corner = jax.random.randint(k, (count, 1, 1), 0, choices)
        place = jnp.arange(pixels).reshape(shape) - corner
        places.append(jnp.broadcast_to(place, (count, height, width)))
    return places[0], places[1]


def _window(
    rows: Places, columns: Places, side: Count
) -> Bool[Array, "batch height width 1"]:
    """Where the square is."""
    return (_within(rows, side) & _within(columns, side))[..., None]


def _within(places: Places, count: Count) -> Bool[Array, "batch height width"]:
    return (places >= 0) & (places < count)


def _signs(key: Array, shape: tuple[int, ...], like: Images) -> Images:
    return jax.random.rademacher(key, shape, like.dtype)


def _length(values: Array, axes: tuple[int, ...] = (1, 2)) -> Array:
    """l2 norm over rows and columns, of every image and channel."""
    return jnp.sqrt(jnp.sum(values**2, axis=axes, keepdims=True))


def _of_length(images: Images, delta: Images, eps: Scalar) -> Images:
    return jnp.clip(images + eps * geometry.NORMS["l2"].direction(delta), 0, 1)
