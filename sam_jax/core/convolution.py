"""Convolution whose weight gradient is fast on CPU.

XLA's CPU backend computes the weight gradient of a convolution as a convolution with a
kernel as large as the image, which at 32x32 pixels takes several times what the same
products take as matrix multiplications. This is `lax.conv_general_dilated` with another
transpose rule in its second argument, and nothing else: bilinear, so that forward mode
and Hessian products work, and on other backends compiled to what lax gives.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

NAME = "conv_fast_on_cpu"
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
    """`lax.conv_general_dilated`, with the fast weight gradient where there is one.

    There is one for ungrouped, undilated 2-d convolutions of [N, H, W, C] images with
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
    return convolution_p.bind(lhs, rhs, **eqn.params) if supported else plain(lhs, rhs)


def weight_gradient(
    x: jax.Array,
    dy: jax.Array,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Any,
) -> jax.Array:
    """dW[i, j] = sum over images and positions p of x[stride p + (i, j)]^T dy[p].

    A product of matrices for every offset (i, j) of the kernel, over a few images at a
    time so that they stay in cache.

    Args:
      x: padded before use, [N, H, W, C]. dy: cotangent of the result, [N, h, w, D].
      size: kernel height and width. strides, padding: of the convolution.

    Returns: [height, width, C, D].
    """
    count, chunk = len(x), images_at_once(dy)
    borders = [(0, 0), *padding, (0, 0)]

    def products(total, images):
        x, dy = images
        x = lax.pad(x, jnp.zeros((), x.dtype), [(*b, 0) for b in borders])
        flat = dy.reshape(-1, dy.shape[-1])
        taps = [
            tap(x, offset, dy.shape[1:3], strides)
            for offset in itertools.product(*map(range, size))
        ]
        new = jnp.stack(
            [lax.dot_general(t, flat, (((0,), (0,)), ((), ()))) for t in taps]
        )
        return total + new, None

    chunks = jax.tree.map(
        lambda a: a.reshape(count // chunk, chunk, *a.shape[1:]), (x, dy)
    )
    zero = jnp.zeros((math.prod(size), x.shape[-1], dy.shape[-1]), dy.dtype)
    total, _ = lax.scan(products, zero, chunks)
    return total.reshape(*size, *total.shape[1:])


def tap(x, offset, positions, strides):
    """The pixels under one offset of the kernel, [N h w, C]."""
    stop = [
        o + (n - 1) * s + 1 for o, n, s in zip(offset, positions, strides, strict=True)
    ]
    window = lax.slice(
        x, (0, *offset, 0), (len(x), *stop, x.shape[-1]), (1, *strides, 1)
    )
    return window.reshape(-1, x.shape[-1])


def images_at_once(dy: jax.Array) -> int:
    """Images whose positions together are about POSITIONS: a chunk fits the cache."""
    wanted = max(1, POSITIONS // math.prod(dy.shape[1:3]))
    return max(k for k in range(1, len(dy) + 1) if len(dy) % k == 0 and k <= wanted)


POSITIONS = 1024


def _plain(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    return lax.conv_general_dilated_p.bind(x, w, **params)


def _image_transpose(dy, x, w, **params):
    aval = jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype)
    return jax.linear_transpose(lambda x: _plain(x, w, **params), aval)(dy)[0]


def _weight_transpose(dy, x, w, **params):
    aval = jax.ShapeDtypeStruct(w.aval.shape, w.aval.dtype)

    def plain(x, dy):
        return jax.linear_transpose(lambda w: _plain(x, w, **params), aval)(dy)[0]

    def fast(x, dy):
        strides, padding = params["window_strides"], params["padding"]
        return weight_gradient(x, dy, aval.shape[:2], strides, padding)

    if math.prod(dy.shape[1:3]) < FEWEST_POSITIONS:
        return plain(x, dy)
    return lax.platform_dependent(x, dy, cpu=fast, default=plain)


FEWEST_POSITIONS = 64


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
    return jax.core.ShapedArray(out.shape, out.dtype)


convolution_p = Primitive(NAME)
convolution_p.def_impl(lambda x, w, **params: _plain(x, w, **params))
convolution_p.def_abstract_eval(_abstract)
ad.defbilinear(convolution_p, _image_transpose, _weight_transpose)
batching.primitive_batchers[convolution_p] = _batch
mlir.register_lowering(convolution_p, mlir.lower_fun(_plain, multiple_results=False))
