"""Convolutions in other forms: those that XLA's CPU backend is fast at, and the one
for many kernels at once.

All are ungrouped, undilated convolutions of [N, H, W, C] images with a
[height, width, C, D] kernel, and take the parameters of `conv_general_dilated_p`.
`convolution` says which is taken when.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sam_jax.ops import compat

CACHE = 3 * 2**20  # bytes of the matrix that `weight_gradient` makes at a time


def plain(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    """The convolution, [N, h, w, D], as lax has it."""
    return lax.conv_general_dilated_p.bind(x, w, **params)


def like(x: jax.Array, *others: jax.Array) -> jax.Array:
    """x, as each device's own copy under `jax.shard_map` if one of the others is."""
    return compat.varying(x, set().union(*map(compat.varying_axes, others)))


def weight_gradient(
    size: tuple[int, int], x: jax.Array, dy: jax.Array, **params: Any
) -> jax.Array:
    """dW[i, j] = sum over images and positions p of x[stride p + (i, j)]^T dy[p].

    The pixels under all offsets (i, j) stand side by side in a matrix, for so few
    images at a time that it stays in cache. dy^T times it is the faster order.

    Args:
      size: kernel height and width. dy: cotangent of the result, [N, h, w, D].

    Returns: [height, width, C, D].
    """
    (height, width), channels, features = size, x.shape[-1], dy.shape[-1]
    taps = height * width
    image = math.prod(dy.shape[1:3]) * taps * channels * x.dtype.itemsize
    chunk = largest_divisor(len(x), CACHE // image)

    # a scan would have XLA compute x a second time, in chunks
    def add_chunk(i, total):
        images, d = (lax.dynamic_slice_in_dim(a, i * chunk, chunk) for a in (x, dy))
        columns = _columns(images, size, dy.shape[1:3], **params)
        columns = columns.reshape(-1, taps * channels)
        rows = d.reshape(-1, features)
        return total + lax.dot_general(rows, columns, (((0,), (0,)), ((), ())))

    zero = like(jnp.zeros((features, taps * channels), dy.dtype), dy)
    total = lax.fori_loop(0, len(x) // chunk, add_chunk, zero)
    return jnp.moveaxis(total.reshape(features, height, width, channels), 0, -1)


def by_columns(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    """The convolution as one matrix product, the pixels under all offsets side by side.

    At stride 1 they take the memory of as many images as the kernel has offsets.
    """
    positions = _positions(x.shape[1:3], w.shape[:2], **params)
    columns = _columns(x, w.shape[:2], positions, **params)
    return jnp.matmul(
        columns,
        w.reshape(-1, w.shape[-1]),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )


def _columns(
    x: jax.Array, size: tuple[int, ...], positions: tuple[int, ...], **params: Any
) -> jax.Array:
    """The pixels under every offset of a kernel, [N, h, w, height width C]."""
    borders = [(0, 0, 0), *((*b, 0) for b in params["padding"]), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), borders)
    offsets = np.ndindex(*size)
    taps = [tap(x, o, positions, params["window_strides"]) for o in offsets]
    return jnp.concatenate(taps, axis=-1)


def _positions(
    size: tuple[int, ...], taps: tuple[int, ...], **params: Any
) -> tuple[int, ...]:
    """Height and width of a convolution's outputs."""
    sides = zip(size, taps, params["window_strides"], params["padding"], strict=True)
    return tuple((n + low + high - t) // s + 1 for n, t, s, (low, high) in sides)


def tap(
    x: jax.Array,
    offset: tuple[int, ...],
    positions: tuple[int, ...],
    strides: tuple[int, int],
) -> jax.Array:
    """The pixels of padded images under one offset of the kernel, [N, h, w, C]."""
    corner = (0, *offset, 0)
    span = [(n - 1) * s + 1 for n, s in zip(positions, strides, strict=True)]
    stop = (len(x), offset[0] + span[0], offset[1] + span[1], x.shape[-1])
    return lax.slice(x, corner, stop, (1, *strides, 1))


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number within a limit, at least 1."""
    return max(
        k for k in range(1, number + 1) if number % k == 0 and k <= max(1, limit)
    )


def as_matrix_product(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    """The convolution of images that have no more pixels than the kernel has offsets.

    Then all pixels of an image times one matrix are its outputs,

        y[p] = sum over pixels q of  x[q] w[q + low - stride p],

    where w[o] is zero for an offset o outside the kernel.
    """
    strides, padding = params["window_strides"], params["padding"]
    size, taps = x.shape[1:3], w.shape[:2]
    out = _positions(size, taps, **params)
    nothing = jnp.zeros(w.shape[2:], w.dtype)

    def block(q: tuple[int, ...], p: tuple[int, ...]) -> jax.Array:
        offset = [
            a + low - s * b
            for a, b, s, (low, _) in zip(q, p, strides, padding, strict=True)
        ]
        inside = all(0 <= o < t for o, t in zip(offset, taps, strict=True))
        return w[offset[0], offset[1]] if inside else nothing

    outputs = list(np.ndindex(*out))
    rows = [
        jnp.concatenate([block(q, p) for p in outputs], 1) for q in np.ndindex(*size)
    ]
    y = x.reshape(len(x), -1) @ jnp.concatenate(rows)
    return y.reshape(len(x), *out, -1)


def with_a_spare_row(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    """The convolution with one row of outputs more, which is cut off.

    XLA leaves to YNNPACK what that library can do, and otherwise takes Eigen, which for
    fewer than 128 channels is twice as fast. A result with more rows than the image is
    among the things that YNNPACK cannot do.
    """
    (low, high), columns = params["padding"]
    longer = {**params, "padding": ((low, high + 1), columns)}
    return plain(x, w, **longer)[:, :-1]


def by_several_columns(
    columns: int, x: jax.Array, w: jax.Array, **params: Any
) -> jax.Array:
    """The convolution, several neighbouring columns of its outputs computed together.

    The columns become channels of the outputs, and the kernel becomes wider by as many,
    with zeros. Where there are few channels, a larger product gains more than the zeros
    cost.

    Args:
      columns: divides the width of the result.
    """
    down, _ = params["window_strides"]
    shifted = [
        jnp.pad(w, ((0, 0), (u, columns - 1 - u), (0, 0), (0, 0)))
        for u in range(columns)
    ]
    kernel = jnp.concatenate(shifted, axis=-1)
    y = plain(x, kernel, **{**params, "window_strides": (down, columns)})
    return y.reshape(*y.shape[:2], -1, w.shape[-1])


def on_folded_images(
    convolve: Callable, x: jax.Array, w: jax.Array, **params: Any
) -> jax.Array:
    """A convolution of stride s as one of stride 1, on images whose pixels are folded.

    Folding makes channels of each s x s block of pixels: pixel s p + a becomes part a
    of the channels of pixel p. With `low` pixels of padding, offset o of the kernel
    reads a pixel that is s q + a = o - low away, 0 <= a < s; so the kernel is folded as
    well, after zeros have made its sides multiples of s. What gains is the transpose
    with respect to x, for which XLA dilates dy and multiplies by the zeros.

    Args:
      convolve: (x, w, **params) -> y, for stride 1.
      x: H and W are multiples of the strides.
    """
    strides, padding = params["window_strides"], params["padding"]
    ends, borders = [], []
    for n, t, s, (low, high) in zip(
        x.shape[1:3], w.shape[:2], strides, padding, strict=True
    ):
        before = -(-low // s)
        front = s * before - low
        taps = -(-(front + t) // s)
        out = (n + low + high - t) // s + 1
        ends.append((front, s * taps - front - t, 0))
        borders.append((before, out - n // s + taps - 1 - before))
    w = lax.pad(w, jnp.zeros((), w.dtype), (*ends, (0, 0, 0), (0, 0, 0)))
    unstrided = {"window_strides": (1, 1), "padding": tuple(borders)}
    folded = _fold(x, 1, strides), _fold(w, 0, strides)
    return convolve(*folded, **{**params, **unstrided})


def _fold(a: jax.Array, axis: int, strides: tuple[int, int]) -> jax.Array:
    """[..., H, W, C, ...] -> [..., H / s, W / s, s s C, ...], with H at an axis."""
    lead, (h, w, c), rest = (
        a.shape[:axis],
        a.shape[axis : axis + 3],
        a.shape[axis + 3 :],
    )
    down, across = strides
    a = a.reshape(*lead, h // down, down, w // across, across, c, *rest)
    a = jnp.swapaxes(a, axis + 1, axis + 2)
    return a.reshape(*lead, h // down, w // across, down * across * c, *rest)
