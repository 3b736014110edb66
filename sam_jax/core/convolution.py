"""Convolution that is fast on CPU where XLA's is slow.

XLA's CPU backend computes the weight gradient of a convolution as a convolution with a
kernel as large as the image, which at 32x32 pixels takes several times what the same
products take as matrix multiplications; and images smaller than the kernel, as the last
stages of a network have them, take up to ten times as long as such a product. This is
`lax.conv_general_dilated` with other rules for these two cases, and nothing else:
bilinear, so that forward mode and Hessian products work, and on other backends compiled
to what lax gives.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

NAME = "conv_fast_on_cpu"
CACHE = 3 * 2**19  # bytes of the matrix that `weight_gradient` makes at a time
FEWEST_POSITIONS = 16  # below so many output positions an image, lax is as fast
IMAGES_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    **others: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, with the fast rules where there are some.

    There are for ungrouped, undilated 2-d convolutions of [N, H, W, C] images with
    [height, width, in, out] kernels; give this function to flax's
    `nn.Conv(conv_general_dilated=...)`.
    """
    plain: Callable = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
        **others,
    )
    eqn = jax.make_jaxpr(plain)(
        jax.ShapeDtypeStruct(lhs.shape, lhs.dtype),
        jax.ShapeDtypeStruct(rhs.shape, rhs.dtype),
    ).eqns[-1]
    supported = (
        eqn.primitive.name == "conv_general_dilated"
        and eqn.params["dimension_numbers"] == IMAGES_LAST
        and {*eqn.params["lhs_dilation"], *eqn.params["rhs_dilation"]} == {1}
        and eqn.params["feature_group_count"] == eqn.params["batch_group_count"] == 1
    )
    if not supported:
        return plain(lhs, rhs)
    return convolution_p.bind(like(lhs, rhs), like(rhs, lhs), **eqn.params)


def like(x: jax.Array, *others: jax.Array) -> jax.Array:
    """x, as each device's own copy under `jax.shard_map` if one of the others is."""
    axes = set().union(*(_axes(other) for other in others)) - _axes(x)
    return lax.pcast(x, tuple(axes), to="varying") if axes else x


def _axes(x: Any) -> frozenset[str]:
    """The mapped axes over which x varies."""
    return jax.typeof(x).manual_axis_type.varying


def weight_gradient(
    x: jax.Array,
    dy: jax.Array,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Any,
) -> jax.Array:
    """dW[i, j] = sum over images and positions p of x[stride p + (i, j)]^T dy[p].

    The pixels under all offsets (i, j) stand side by side in a matrix, for so few
    images at a time that it stays in cache. dy^T times it is the faster order.

    Args:
      x: padded before use, [N, H, W, C]. dy: cotangent of the result, [N, h, w, D].
      size: kernel height and width. strides, padding: of the convolution.

    Returns: [height, width, C, D].
    """
    (height, width), channels, features = size, x.shape[-1], dy.shape[-1]
    offsets = list(itertools.product(range(height), range(width)))
    borders = [(0, 0, 0), *((*b, 0) for b in padding), (0, 0, 0)]

    def product(total, images):
        x, dy = images
        x = lax.pad(x, jnp.zeros((), x.dtype), borders)
        taps = [tap(x, offset, dy.shape[1:3], strides) for offset in offsets]
        columns = jnp.concatenate(taps, axis=-1).reshape(-1, len(offsets) * channels)
        rows = dy.reshape(-1, features)
        return total + lax.dot_general(rows, columns, (((0,), (0,)), ((), ()))), None

    image = math.prod(dy.shape[1:3]) * len(offsets) * channels * x.dtype.itemsize
    chunk = largest_divisor(len(x), CACHE // image)
    chunks = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), (x, dy))
    zero = like(jnp.zeros((features, len(offsets) * channels), dy.dtype), dy)
    total, _ = lax.scan(product, zero, chunks)
    return jnp.moveaxis(total.reshape(features, height, width, channels), 0, -1)


def tap(
    x: jax.Array,
    offset: tuple[int, int],
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


def as_matrix_product(
    x: jax.Array, w: jax.Array, strides: tuple[int, int], padding: Any
) -> jax.Array:
    """The convolution of images that have no more pixels than the kernel has offsets.

    Then all pixels of an image times one matrix are its outputs,

        y[p] = sum over pixels q of  x[q] w[q + low - stride p],

    where w[o] is zero for an offset o outside the kernel.

    Args:
      x: [N, H, W, C]. w: [height, width, C, D]. strides, padding: of the convolution.

    Returns: [N, h, w, D].
    """
    size, taps = x.shape[1:3], w.shape[:2]
    out = [
        (n + low + high - t) // s + 1
        for n, t, s, (low, high) in zip(size, taps, strides, padding, strict=True)
    ]
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


def _plain(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    return lax.conv_general_dilated_p.bind(x, w, **params)


def _product(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    return as_matrix_product(x, w, params["window_strides"], params["padding"])


def _is_small(x: Any, w: Any) -> bool:
    return math.prod(x.shape[1:3]) <= math.prod(w.shape[:2]) > 1


def _value(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    plain: Callable = functools.partial(_plain, **params)
    if not _is_small(x, w):
        return plain(x, w)
    product = functools.partial(_product, **params)
    return lax.platform_dependent(x, w, cpu=product, default=plain)


def _transposed(convolve: Callable, position: int, aval: Any, **params: Any) -> Any:
    """(the other input, dy) -> cotangent of the input at a position."""

    def transpose(other, dy):
        def linear(value):
            inputs = (value, other) if position == 0 else (other, value)
            return convolve(*inputs, **params)

        return jax.linear_transpose(linear, aval)(dy)[0]

    return transpose


def _image_transpose(dy, x, w, **params):
    plain = _transposed(_plain, 0, x.aval, **params)
    if not _is_small(x.aval, w):
        return plain(w, dy)
    product = _transposed(_product, 0, x.aval, **params)
    return lax.platform_dependent(w, dy, cpu=product, default=plain)


def _weight_transpose(dy, x, w, **params):
    plain = _transposed(_plain, 1, w.aval, **params)

    def columns(x, dy):
        strides, padding = params["window_strides"], params["padding"]
        return weight_gradient(x, dy, w.aval.shape[:2], strides, padding)

    if _is_small(x, w.aval):
        fast = _transposed(_product, 1, w.aval, **params)
    elif math.prod(dy.shape[1:3]) >= FEWEST_POSITIONS:
        fast = columns
    else:
        return plain(x, dy)
    return lax.platform_dependent(x, dy, cpu=fast, default=plain)


def _batch(args, dims, **params):
    """A batch of images joins the images; a batch of kernels is left to lax."""
    (x, w), (x_dim, w_dim) = args, dims
    if w_dim is not None:
        return jax.vmap(lambda x, w: _plain(x, w, **params), dims)(x, w), 0
    x = jnp.moveaxis(x, x_dim, 0)
    y = convolution_p.bind(x.reshape(-1, *x.shape[2:]), w, **params)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _abstract(x, w, **params):
    out = jax.eval_shape(functools.partial(_plain, **params), x, w)
    return x.update(shape=out.shape, dtype=out.dtype)


convolution_p = Primitive(NAME)
convolution_p.def_impl(lambda x, w, **params: _value(x, w, **params))
convolution_p.def_abstract_eval(_abstract)
ad.defbilinear(convolution_p, _image_transpose, _weight_transpose)
batching.primitive_batchers[convolution_p] = _batch
mlir.register_lowering(convolution_p, mlir.lower_fun(_value, multiple_results=False))
