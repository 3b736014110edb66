"""Convolution that is fast on CPU where XLA's is slow.

XLA's CPU backend

- computes the weight gradient as a convolution with a kernel as large as the image,
  which at 32x32 pixels takes several times what the same products take as matrix
  multiplications;
- takes up to ten times as long as a matrix product for images smaller than the kernel,
  as the last stages of a network have them;
- has two libraries for the other convolutions, and where both can, takes the slower;
  neither is fast at few channels, as a first layer has them;
- multiplies zeros in the image gradient of a strided convolution.

`conv_general_dilated` is lax's with other rules for these cases, and nothing else:
bilinear, so that forward mode and Hessian products work, and on other backends
compiled to what lax gives. `conv_by_columns` is for networks side by side, on any
backend. `convolution_forms` has what is computed instead.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sam_jax.ops import compat
from sam_jax.ops import convolution_forms as forms

NAME = "conv_fast_on_cpu"
NAMES = ("conv_general_dilated", NAME)  # of all convolutions in a jaxpr
FEWEST_POSITIONS = 16  # below so many output positions an image, lax is as fast
FEWEST_CHANNELS = 8  # of images, that XLA's convolution is fast at
YNNPACK_IS_OUT = 16  # XLA does not give it convolutions of so few channels
YNNPACK_IS_AS_FAST = 128  # with so many input and output channels, about
IMAGES_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def conv_general_dilated(
    lhs: jax.Array, rhs: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`lax.conv_general_dilated`, with the fast rules where there are some.

    There are for ungrouped, undilated 2-d convolutions of [N, H, W, C] images with
    [height, width, in, out] kernels; give this function to flax's
    `nn.Conv(conv_general_dilated=...)`.
    """

    def fast(lhs: jax.Array, rhs: jax.Array, **params: Any) -> jax.Array:
        lhs, rhs = forms.like(lhs, rhs), forms.like(rhs, lhs)
        return convolution_p.bind(lhs, rhs, **params)

    return _replace(fast, lhs, rhs, *args, **options)


def conv_by_columns(
    lhs: jax.Array, rhs: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`lax.conv_general_dilated` as a matrix product, for `vmap` over kernels.

    Many networks side by side have kernels of their own. Of lax's convolution that
    makes a grouped one, which cuDNN computes group by group; of a matrix product, a
    batched one. For the same convolutions as `conv_general_dilated`.
    """
    return _replace(forms.by_columns, lhs, rhs, *args, **options)


def _replace(
    form: Callable, lhs: jax.Array, rhs: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """form(lhs, rhs, **parameters) for supported convolutions, lax's for the others."""

    def plain(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(lhs, rhs, *args, **options)

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
    return form(lhs, rhs, **eqn.params) if supported else plain(lhs, rhs)


def _is_small(x: Any, w: Any) -> bool:
    return math.prod(x.shape[1:3]) <= math.prod(w.shape[:2]) > 1


def _gains_by_a_spare_row(w: Any, **params: Any) -> bool:
    (low, high), _ = params["padding"]
    *size, inputs, outputs = w.shape
    return (
        w.dtype in (jnp.float32, jnp.float64)  # YNNPACK has no others here
        and params["window_strides"] == (1, 1)
        and low + high + 1 >= size[0] > 1
        and min(inputs, outputs) < YNNPACK_IS_AS_FAST
        and max(inputs, outputs) > YNNPACK_IS_OUT
    )


def _columns_at_once(x: Any, w: Any, **params: Any) -> int:
    """How many columns of outputs had better be made as one; 1 for none."""
    inputs, outputs = w.shape[2:]
    few = inputs < FEWEST_CHANNELS and outputs <= YNNPACK_IS_OUT
    if not few or params["window_strides"][1] != 1:
        return 1
    width = x.shape[2] + sum(params["padding"][1]) - w.shape[1] + 1
    return forms.largest_divisor(width, min(4, 2 * YNNPACK_IS_OUT // outputs))


def _can_fold(x: Any, w: Any, **params: Any) -> bool:
    sizes = zip(x.shape[1:3], params["window_strides"], strict=True)
    return math.prod(w.shape[:2]) > 1 and all(n % s == 0 for n, s in sizes)


def _value(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    if _is_small(x, w):
        fast = forms.as_matrix_product
    elif (columns := _columns_at_once(x, w, **params)) > 1:
        fast = functools.partial(forms.by_several_columns, columns)
    elif _gains_by_a_spare_row(w, **params):
        fast = forms.with_a_spare_row
    else:
        return forms.plain(x, w, **params)
    return _choose(fast, forms.plain, x, w, **params)


def _choose(fast: Callable, plain: Callable, *args: Any, **params: Any) -> jax.Array:
    """fast on CPU, plain elsewhere."""
    fast, plain = (functools.partial(f, **params) for f in (fast, plain))
    return lax.platform_dependent(*args, cpu=fast, default=plain)


def _transposed(convolve: Callable, position: int, aval: Any) -> Callable:
    """(the other input, dy, **params) -> cotangent of the input at a position."""

    def transpose(other, dy, **params):
        def linear(value):
            inputs = (value, other) if position == 0 else (other, value)
            return convolve(*inputs, **params)

        return jax.linear_transpose(linear, aval)(dy)[0]

    return transpose


def _image_transpose(dy, x, w, **params):
    transposed = functools.partial(_transposed, position=0, aval=x.aval)
    if _is_small(x.aval, w):
        fast = transposed(forms.as_matrix_product)
    elif params["window_strides"] == (1, 1):
        fast = _mirrored
    elif _can_fold(x.aval, w, **params):
        on_folded = functools.partial(forms.on_folded_images, convolution_p.bind)
        fast = transposed(on_folded)
    else:
        fast = transposed(forms.plain)
    return _choose(fast, transposed(forms.plain), w, dy, **params)


def _mirrored(w, dy, **params):
    """The cotangent of the images at stride 1: a convolution of dy with the kernel
    mirrored, which has fast rules of its own.
    """
    padding = tuple(
        (taps - 1 - low, taps - 1 - high)
        for taps, (low, high) in zip(w.shape[:2], params["padding"], strict=True)
    )
    kernel = jnp.swapaxes(jnp.flip(w, (0, 1)), 2, 3)
    return _value(dy, kernel, **{**params, "padding": padding})


def _weight_transpose(dy, x, w, **params):
    transposed = functools.partial(_transposed, position=1, aval=w.aval)
    if _is_small(x, w.aval):
        fast = transposed(forms.as_matrix_product)
    elif math.prod(dy.shape[1:3]) >= FEWEST_POSITIONS:
        fast = functools.partial(forms.weight_gradient, w.aval.shape[:2])
    else:
        fast = transposed(forms.plain)
    return _choose(fast, transposed(forms.plain), x, dy, **params)


def _batch(args, dims, **params):
    """A batch of images joins the images; a batch of kernels is left to lax."""
    (x, w), (x_dim, w_dim) = args, dims
    if w_dim is not None:
        return jax.vmap(lambda x, w: forms.plain(x, w, **params), dims)(x, w), 0
    x = jnp.moveaxis(x, x_dim, 0)
    y = convolution_p.bind(x.reshape(-1, *x.shape[2:]), w, **params)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _abstract(x, w, **params):
    out = jax.eval_shape(functools.partial(forms.plain, **params), x, w)
    return x.update(shape=out.shape, dtype=out.dtype)


convolution_p = compat.bilinear(
    NAME, _value, _abstract, (_image_transpose, _weight_transpose), _batch
)
