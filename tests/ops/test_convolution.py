"""The convolution with the fast weight gradient is lax's, in every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sam_jax.ops import convolution

CASES = {
    "3x3": ((4, 16, 16, 3), 3, (1, 1), ((1, 1), (1, 1))),
    "3x3, stride 2, odd height": ((4, 17, 16, 3), 3, (2, 2), ((1, 1), (1, 1))),
    "1x1, stride 2": ((6, 16, 20, 3), 1, (2, 2), "VALID"),
    "5x5, SAME": ((4, 12, 16, 2), 5, (1, 1), "SAME"),
    "3x3, stride 2": ((4, 16, 12, 3), 3, (2, 2), ((1, 1), (1, 1))),
    "4x4, strides 3 and 2": ((3, 9, 12, 3), 4, (3, 2), ((1, 2), (0, 1))),
    "5x5, stride 4, nothing left over": ((2, 16, 8, 3), 5, (4, 4), ((5, 1), (0, 0))),
    "few channels, odd width": ((3, 6, 7, 3), 3, (1, 1), "VALID"),
    "few channels, stride 2 in height": ((3, 7, 6, 3), 3, (2, 1), ((1, 1), (0, 2))),
    "many channels": ((3, 8, 6, 20), 3, (1, 1), "SAME"),
    "many channels, no padding": ((3, 8, 7, 20), 3, (1, 1), "VALID"),
    "many channels, uneven padding": ((3, 8, 7, 20), 3, (1, 1), ((0, 3), (4, 0))),
    "uneven strides and paddings": ((2, 30, 16, 2), 3, (3, 1), ((0, 2), (1, 0))),
    "few positions": ((4, 4, 4, 3), 3, (1, 1), "SAME"),
    "2x2 pixels": ((4, 2, 2, 3), 3, (1, 1), "SAME"),
    "2x2 pixels, stride 2": ((4, 2, 2, 3), 3, (2, 2), ((1, 1), (1, 1))),
    "one pixel": ((4, 1, 1, 3), 3, (1, 1), "SAME"),
    "3x2 pixels, uneven": ((4, 3, 2, 3), 3, (2, 1), ((0, 2), (1, 3))),
}
every = pytest.mark.parametrize("case", CASES)


def problem(case, dtype=jnp.float64):
    shape, size, strides, padding = CASES[case]
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal(shape), dtype)
    w = jnp.asarray(random.standard_normal((size, size, shape[-1], 5)), dtype)

    def loss(convolve, x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = convolve(x, w, strides, padding, dimension_numbers=numbers)
        return jnp.sum(jnp.sin(y))

    ours = functools.partial(loss, convolution.conv_general_dilated)
    return ours, functools.partial(loss, lax.conv_general_dilated), x, w


def assert_close(received, expected, rtol):
    def one(a, b):
        assert a.dtype == b.dtype
        atol = rtol * float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)

    jax.tree.map(one, received, expected)


@every
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float64, 1e-13), (jnp.float32, 1e-5)])
def test_value_and_gradients(case, dtype, rtol):
    ours, theirs, x, w = problem(case, dtype)
    gradient = functools.partial(jax.value_and_grad, argnums=(0, 1))
    assert_close(jax.jit(gradient(ours))(x, w), jax.jit(gradient(theirs))(x, w), rtol)


@every
def test_columns_give_the_value_and_gradients_of_many_kernels(case):
    _, theirs, x, w = problem(case)
    _, _, strides, padding = CASES[case]

    def loss(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = convolution.conv_by_columns(
            x, w, strides, padding, dimension_numbers=numbers
        )
        return jnp.sum(jnp.sin(y))

    many = jnp.stack([w, 1 - w])
    gradient = functools.partial(jax.value_and_grad, argnums=(0, 1))
    received = jax.jit(jax.vmap(gradient(loss), (None, 0)))(x, many)
    expected = jax.jit(jax.vmap(gradient(theirs), (None, 0)))(x, many)
    assert_close(received, expected, 1e-13)


TRANSFORMED = {
    "Hessian product": lambda f: (
        lambda x, w: jax.jvp(lambda w: jax.grad(f, 1)(x, w), (w,), (jnp.cos(w),))[1]
    ),
    "mixed second derivative": lambda f: (
        lambda x, w: jax.grad(lambda x: jnp.vdot(jax.grad(f, 1)(x, w), jnp.cos(w)))(x)
    ),
    "vmap over images": lambda f: (
        lambda x, w: jax.grad(lambda w: jnp.sum(jax.vmap(lambda i: f(i[None], w))(x)))(
            w
        )
    ),
    "vmap over an axis behind height and width": lambda f: (
        lambda x, w: jax.vmap(lambda x: jax.grad(f, (0, 1))(x, w), 3)(
            jnp.stack([x, -x], 3)
        )
    ),
    "vmap over kernels": lambda f: (
        lambda x, w: jax.vmap(lambda w: jax.grad(f, 1)(x, w))(jnp.stack([w, 2 * w]))
    ),
    "vmap over both": lambda f: (
        lambda x, w: jax.vmap(lambda x, w: jax.grad(f, (0, 1))(x, w))(
            jnp.stack([x, -x]), jnp.stack([w, 2 * w])
        )
    ),
}


@pytest.mark.parametrize(
    "case",
    ["3x3, stride 2, odd height", "2x2 pixels", "3x3, stride 2", "many channels"],
)
@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations(name, case):
    ours, theirs, x, w = problem(case)
    transform = TRANSFORMED[name]
    received = jax.jit(transform(ours))(x, w)
    assert_close(received, jax.jit(transform(theirs))(x, w), 1e-12)


def test_on_cpu_the_weight_gradient_is_made_of_matrix_products():
    """Also under vmap over examples, which must join them into one batch."""
    ours, _, x, w = problem("3x3")

    def of_batch(w):
        return ours(x, w)

    def of_examples(w):
        return jnp.sum(jax.vmap(lambda i: ours(i[None], w))(x))

    for function in (of_batch, of_examples):
        text = jax.jit(jax.grad(function)).lower(w).compile().as_text()
        assert text.count("convolution(") + text.count("$Conv") <= 1  # the forward one
        assert text.count(" dot(") >= 1


def test_on_cpu_small_images_meet_a_matrix():
    ours, _, x, w = problem("2x2 pixels, stride 2")
    text = jax.jit(jax.grad(ours, (0, 1))).lower(x, w).compile().as_text()
    assert "convolution(" not in text
    assert "$Conv" not in text


def test_on_cpu_few_channels_do_not_meet_ynnpack():
    """Which XLA takes for them otherwise: if not, the spare row has become needless."""
    ours, theirs, x, w = problem("many channels", jnp.float32)

    def compiled(loss):
        return jax.jit(jax.value_and_grad(loss)).lower(x, w).compile().as_text()

    assert "ynn_fusion" in compiled(theirs)
    assert "ynn_fusion" not in compiled(ours)


def test_on_cpu_the_image_gradient_at_a_stride_dilates_nothing():
    ours, theirs, x, w = problem("3x3, stride 2")

    def compiled(loss):
        return jax.jit(jax.grad(loss)).lower(x, w).compile().as_text()

    assert "lhs_dilate=2x2" in compiled(theirs)
    assert "lhs_dilate" not in compiled(ours)


@pytest.mark.parametrize(
    "options",
    [
        {"feature_group_count": 3},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1)},
    ],
)
def test_other_convolutions_are_left_to_lax(options):
    x = jnp.ones((2, 16, 16, 3))
    w = jnp.ones((3, 3, 3 // options.get("feature_group_count", 1), 6))
    jaxpr = jax.make_jaxpr(
        lambda x, w: convolution.conv_general_dilated(
            x,
            w,
            (1, 1),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            **options,
        )
    )(x, w)
    assert "conv_general_dilated" in str(jaxpr)
    assert convolution.NAME not in str(jaxpr)
