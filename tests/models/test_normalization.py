"""Group normalisation is flax's, in values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.models.normalization import GroupNorm


def both(num_groups, **options):
    return (
        GroupNorm(num_groups, epsilon=1e-5, **options),
        nn.GroupNorm(num_groups, epsilon=1e-5, **options),
    )


def problem(shape, dtype):
    random = np.random.default_rng(0)
    x = jnp.asarray(3 + 2 * random.standard_normal(shape), dtype)
    channels = shape[-1]
    scale, bias = (jnp.asarray(random.standard_normal(channels), dtype) for _ in "ab")
    return x, {"scale": scale, "bias": bias}


@pytest.mark.parametrize(
    ("shape", "num_groups"),
    [
        ((3, 6, 5, 8), 4),
        ((3, 6, 5, 8), 1),
        ((3, 6, 5, 8), 8),
        ((2, 7, 6), 3),
        ((4, 6), 2),
    ],
)
def test_values_and_gradients(shape, num_groups):
    x, params = problem(shape, jnp.float64)
    direction = jnp.cos(jnp.arange(x.size, dtype=float)).reshape(shape)

    def run(module):
        def loss(params, x):
            return jnp.vdot(direction, module.apply({"params": params}, x) ** 2)

        return jax.value_and_grad(loss, (0, 1))(params, x)

    ours, theirs = map(run, both(num_groups))
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("of_input", [jnp.float32, jnp.bfloat16])
def test_dtypes_and_half_precision(dtype, of_input):
    """Statistics are accumulated in float32 for inputs of half the width."""
    x, params = problem((4, 16, 16, 8), of_input)
    ours, theirs = (
        module.apply({"params": params}, x) for module in both(4, dtype=dtype)
    )
    assert ours.dtype == theirs.dtype
    tolerance = 4e-2 if ours.dtype == jnp.bfloat16 else 1e-5
    np.testing.assert_allclose(
        np.asarray(ours, float), np.asarray(theirs, float), atol=tolerance
    )


def test_parameters_are_those_of_flax():
    x = jnp.ones((2, 4, 4, 6))
    ours, theirs = (module.init(jax.random.key(0), x) for module in both(3))
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: a.dtype == b.dtype and bool((a == b).all()), ours, theirs
        )
    )
