"""Initial parameters: deviations layer by layer, and one draw for everything."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import models
from sam_jax.models import initialization

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def resnet():
    return models.create("preact_resnet18", num_classes=10, width=16)


@pytest.fixture(scope="module")
def variables(resnet):
    return models.initialize(resnet, KEY, (8, 8, 1))


def kernels(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): x for p, x in leaves if p[-1].key == "kernel"}


def deviation(shape):
    """By hand: He et al. 2015 fan-out for [h, w, in, out], 1 / in for [in, out]."""
    if len(shape) == 2:
        return math.sqrt(1 / shape[0])
    height, width, _, out = shape
    return math.sqrt(2 / (height * width * out))


def test_every_kernel_is_normal_with_its_own_deviation(variables):
    found = kernels(variables["params"])
    assert len(found) == 1 + 16 + 3 + 1
    for name, kernel in found.items():
        z = np.asarray(kernel, float).ravel() / deviation(kernel.shape)
        # Standard errors of mean, variance and P(|z| > 2) = 0.0455; 4.5 of them.
        bound = 4.5 / math.sqrt(z.size)
        assert abs(z.mean()) < bound, name
        assert abs(z.var() - 1) < math.sqrt(2) * bound, name
        assert abs((abs(z) > 2).mean() - 0.0455) < math.sqrt(0.0455) * bound, name


def test_the_rest_is_constant(resnet, variables):
    found = kernels(variables["params"])
    values = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
    rest = [
        (path[-1].key, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if path[-1].key != "kernel"
    ]
    assert len(rest) == 17 * 4 + 1
    for name, leaf in rest:
        np.testing.assert_array_equal(leaf, values[name])
    assert all(k.dtype == jnp.float32 for k in found.values())


def test_kernels_are_cut_from_one_normal_draw(variables):
    found = kernels(variables["params"]).values()
    joined = np.concatenate([np.ravel(k) / deviation(k.shape) for k in found])
    expected = jax.random.normal(KEY, joined.shape, jnp.float32)
    np.testing.assert_allclose(joined, expected, rtol=1e-6)


def test_structure_is_that_of_flax(resnet, variables):
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    expected = jax.eval_shape(lambda x: resnet.init(KEY, x, train=True), images)
    received = jax.eval_shape(lambda: variables)
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    assert jax.tree.leaves(received) == jax.tree.leaves(expected)


@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        (initialization.conv_kernel, (3, 3, 16, 64)),
        (initialization.conv_kernel, (1, 1, 64, 128)),
        (initialization.dense_kernel, (200, 50)),
    ],
)
def test_module_init_draws_from_the_same_distribution(initializer, shape):
    z = np.asarray(initializer(KEY, shape, jnp.float64)).ravel() / deviation(shape)
    assert abs(z.var() - 1) < 4.5 * math.sqrt(2 / z.size)
    # 1.7 normal deviations; a distribution cut at 2 has none beyond 2.27.
    assert abs(z).max() > 3


def test_keys_decide(resnet, variables):
    same = models.initialize(resnet, KEY, (8, 8, 1))
    other = models.initialize(resnet, jax.random.key(1), (8, 8, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (variables, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim < 2 or (a != c).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtype_is_that_of_the_parameters_not_of_the_statistics(dtype):
    model = models.PreActResNet(num_classes=2, stage_sizes=(1,), width=2)
    variables = models.initialize(model, KEY, (4, 4, 1), dtype)
    assert {x.dtype for x in jax.tree.leaves(variables["params"])} == {jnp.dtype(dtype)}
    wide = {x.dtype for x in jax.tree.leaves(variables["batch_stats"])}
    assert wide == {jnp.promote_types(dtype, jnp.float32)}


def test_vmap_over_keys_gives_independent_networks():
    model = models.create("linear", num_classes=3)
    keys = jax.random.split(KEY, 2)
    both = jax.vmap(lambda key: models.initialize(model, key, (4, 4, 1)))(keys)
    for i, key in enumerate(keys):
        alone = models.initialize(model, key, (4, 4, 1))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_array_equal(a[i], b), both, alone
        )


def test_a_leaf_without_a_rule_is_refused():
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            return images * self.param("temperature", nn.initializers.ones, ())

    with pytest.raises(ValueError, match=r"'temperature'; known: scale, bias, mean"):
        models.initialize(Odd(), KEY, (4, 4, 1))


class Attention(nn.Module):
    """Tokens of pixels, attention in two heads, a head of three classes."""

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), 64, -1)
        x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=32)(x)
        return nn.Dense(3)(x.mean(1))


def test_attention_starts_by_the_inputs_of_its_layers():
    variables = models.initialize(Attention(), KEY, (8, 8, 24))
    found = variables["params"]["MultiHeadDotProductAttention_0"]
    shapes = {name: layer["kernel"].shape for name, layer in found.items()}
    assert shapes == {
        "query": (24, 2, 16),
        "key": (24, 2, 16),
        "value": (24, 2, 16),
        "out": (2, 16, 24),
    }
    for name, inputs in (("query", 24), ("value", 24), ("out", 32)):
        z = np.asarray(found[name]["kernel"], float).ravel() * math.sqrt(inputs)
        assert abs(z.var() - 1) < 4.5 * math.sqrt(2 / z.size), name


def test_an_embedding_starts_by_its_features():
    class Words(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            tokens = images.reshape(len(images), -1).astype(int)
            return nn.Embed(50, 40)(tokens).mean(1)

    table = models.initialize(Words(), KEY, (4, 4, 1))["params"]["Embed_0"]["embedding"]
    z = np.asarray(table, float).ravel() * math.sqrt(40)
    assert abs(z.var() - 1) < 4.5 * math.sqrt(2 / z.size)


def test_a_kernel_of_an_unknown_layer_is_refused():
    class Bilinear(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            x = images.reshape(len(images), -1)
            kernel = self.param("kernel", nn.initializers.ones, (16, 16, 3))
            return jnp.einsum("bi,bj,ijk->bk", x, x, kernel)

    with pytest.raises(ValueError, match=r"kernel: .*layer Bilinear.*there is no rule"):
        models.initialize(Bilinear(), KEY, (4, 4, 1))


@pytest.mark.parametrize("shape", [(0, 8, 1), (8, 8, -1)])
def test_an_empty_image_shape_is_refused(shape):
    model = models.create("linear", num_classes=3)
    with pytest.raises(ValueError, match=r"image_shape=.*; give an integer >= 1"):
        models.initialize(model, KEY, shape)
