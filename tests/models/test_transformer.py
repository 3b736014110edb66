"""Vision transformers and GPTs against NumPy, and what makes them what they are."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import models
from sam_jax.models import transformer
from sam_jax.models.vit import cut
from tests.models import reference

VIT = {"patch": 2, "depth": 2, "width": 12, "heads": 3, "mlp_ratio": 2}
GPT = {"depth": 2, "width": 12, "heads": 3, "mlp_ratio": 2, "max_length": 7}
VOCABULARY, LENGTH = 11, 6


def drawn(module, example):
    """Every leaf random, so that no bias is zero and no scale is one."""
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), example)["params"]
    random = np.random.default_rng(3)
    return jax.tree.map(lambda s: 0.5 * random.standard_normal(s.shape), shapes)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((3, 4, 6, 2))


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(1).integers(0, VOCABULARY, (3, LENGTH))


def run(module, params, batch, **options):
    apply = jax.jit(functools.partial(module.apply, train=False, **options))
    return apply({"params": params}, batch)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"registers": 2, "norm": "rms"},
        {"registers": 1, "pool": "mean", "scan": True},
        {"pool": "mean"},
    ],
)
def test_a_vision_transformer_is_that_of_numpy(images, options):
    module = models.create("vit", num_classes=5, **VIT, **options)
    params = drawn(module, images)
    expected = reference.vit(
        params, images, patch=2, depth=2, heads=3, pool=module.pool
    )
    received = run(module, params, images)
    np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "rotary", "norm": "rms"},
        {"positions": "rotary", "tied": False, "scan": True},
    ],
)
def test_a_gpt_is_that_of_numpy(tokens, options):
    module = models.create("gpt", num_classes=VOCABULARY, **GPT, **options)
    params = drawn(module, tokens)
    expected = reference.gpt(
        params, tokens, depth=2, heads=3, positions=module.positions, tied=module.tied
    )
    received = run(module, params, tokens)
    np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12)


def test_layers_in_a_loop_are_the_layers_one_by_one(tokens):
    loop = models.create("gpt", num_classes=VOCABULARY, scan=True, **GPT)
    params = drawn(loop, tokens)
    listed = {k: v for k, v in params.items() if k != "blocks"}
    listed |= {f"block{i + 1}": reference.pick(params["blocks"], i) for i in range(2)}

    def gradient(module, params):
        logits = module.apply({"params": params}, tokens, train=True)
        return jnp.sum(jnp.sin(logits))

    unrolled = models.create("gpt", num_classes=VOCABULARY, **GPT)
    stacked = jax.jit(jax.grad(functools.partial(gradient, loop)))(params)
    single = jax.jit(jax.grad(functools.partial(gradient, unrolled)))(listed)
    for i in range(2):
        pairs = zip(
            jax.tree.leaves(reference.pick(stacked["blocks"], i)),
            jax.tree.leaves(single[f"block{i + 1}"]),
            strict=True,
        )
        for received, expected in pairs:
            np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        stacked["embed"]["embedding"], single["embed"]["embedding"], rtol=1e-10
    )


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_no_logit_depends_on_a_later_token(tokens, positions):
    options = {**GPT, "positions": positions}
    module = models.create("gpt", num_classes=VOCABULARY, **options)
    params, changed = drawn(module, tokens), tokens.copy()
    changed[:, 4] = (changed[:, 4] + 1) % VOCABULARY
    before, after = (run(module, params, t) for t in (tokens, changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()


def test_rotated_products_depend_on_the_distance_alone():
    """<R_s q, R_t k> for the same q and k at every pair of positions."""
    random = np.random.default_rng(4)
    query, key = random.standard_normal((2, 8))

    def everywhere(vector):
        return transformer.rotate(jnp.broadcast_to(jnp.asarray(vector), (1, 9, 1, 8)))[
            0, :, 0
        ]

    products = np.asarray(everywhere(query) @ everywhere(key).T)
    for distance in range(-8, 9):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-12)
    assert abs(products[0, 0] - query @ key) < 1e-12
    assert np.ptp(products[0]) > 0.1


def test_attention_in_float32_is_that_in_float64():
    random = np.random.default_rng(5)
    q, k, v = jnp.asarray(random.standard_normal((3, 2, 5, 3, 4)))
    for causal in (True, False):
        wide = transformer.attend(q, k, v, causal=causal)
        narrow = transformer.attend(
            *(jnp.asarray(x, jnp.float32) for x in (q, k, v)), causal=causal
        )
        assert (wide.dtype, narrow.dtype) == (jnp.float64, jnp.float32)
        np.testing.assert_allclose(narrow, wide, atol=1e-6)


def test_patches_are_blocks_of_the_image_in_rows():
    image = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    received = cut(jnp.asarray(image), 2)
    np.testing.assert_array_equal(received[1, 4], image[1, 2:4, 2:4].ravel())


# Touvron et al. 2021, Table 1, and Radford et al. 2019, to the last parameter as the
# authors' networks have them: GPT-2 has 124, 355, 774 and 1,558 million.
PUBLISHED = {
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
    "gpt_small": 124_439_808,
    "gpt_medium": 354_823_168,
    "gpt_large": 774_030_080,
    "gpt_xl": 1_557_611_200,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_papers(name):
    if name.startswith("vit"):
        classes, shape, dtype = 1000, (224, 224, 3), jnp.float32
    else:
        classes, shape, dtype = 50_257, (1024,), jnp.int32
    module = models.create(name, num_classes=classes, scan=True)
    make = functools.partial(
        models.initialize, module, image_shape=shape, input_dtype=dtype
    )
    leaves = jax.tree.leaves(jax.eval_shape(make, jax.random.key(0)))
    assert sum(leaf.size for leaf in leaves) == PUBLISHED[name]


def test_stacked_layers_start_as_each_of_them_would():
    """The axis over layers is no input of a layer."""
    module = models.create("gpt", num_classes=9, scan=True, depth=3, width=32, heads=2)
    found = models.initialize(module, jax.random.key(0), (5,), input_dtype=jnp.int32)[
        "params"
    ]
    for kernel, inputs in (
        (found["blocks"]["attention"]["query"]["kernel"], 32),
        (found["blocks"]["dense2"]["kernel"], 128),
    ):
        assert kernel.shape[:2] == (3, inputs)
        z = np.asarray(kernel, float).ravel() * np.sqrt(inputs)
        assert abs(z.var() - 1) < 4.5 * np.sqrt(2 / z.size)
    z = np.asarray(found["positions"], float).ravel() / 0.02
    assert abs(z.var() - 1) < 4.5 * np.sqrt(2 / z.size)


def test_dropout_is_off_in_evaluation_and_random_in_training(tokens):
    module = models.create("gpt", num_classes=VOCABULARY, dropout=0.5, **GPT)
    plain = models.create("gpt", num_classes=VOCABULARY, **GPT)
    params = drawn(plain, tokens)
    np.testing.assert_array_equal(
        run(module, params, tokens), run(plain, params, tokens)
    )

    @jax.jit
    def train(key):
        rngs = {"dropout": key}
        return module.apply({"params": params}, tokens, train=True, rngs=rngs)

    first, second = (train(jax.random.key(i)) for i in range(2))
    assert (np.abs(first - second) > 1e-3).mean() > 0.9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit", {"heads": 5}, "heads=5 for width=192; .*96, 192]"),
        ("vit", {"norm": "batch"}, "norm of a transformer 'batch'; known: layer, rms"),
        ("vit", {"pool": "max"}, "pool 'max'; known: class, mean"),
        ("vit", {"patch": 0}, "patch=0; give an integer >= 1"),
        ("vit", {"registers": -1}, "registers=-1; give an integer >= 0"),
        ("vit_tiny", {"width": 64}, "'vit_tiny' has no option 'width'"),
        ("gpt", {"depth": 0}, "depth=0; give an integer >= 1"),
        ("gpt", {"positions": "none"}, "positions 'none'; known: learned, rotary"),
        ("gpt", {"dropout": 1.5}, r"dropout=1.5; give a finite number in \[0, 1\]"),
        (
            "gpt",
            {"positions": "rotary", "width": 12, "heads": 4},
            "width=12 and heads=4 with positions='rotary'",
        ),
    ],
)
def test_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, num_classes=10, **options)


def test_what_a_transformer_cannot_be_called_with_is_refused(tokens, images):
    gpt = models.create("gpt", num_classes=VOCABULARY, **GPT)
    vit = models.create("vit", num_classes=3, **{**VIT, "patch": 4})
    cases = [
        (gpt, np.zeros((2, 8), int), "8 tokens for max_length=7 learned positions"),
        (gpt, images, re.escape("tokens of shape (3, 4, 6, 2) and dtype float64")),
        (vit, images, "images of 4 x 6 pixels for patch=4; it must divide both"),
        (vit, tokens, re.escape("images of shape (3, 6); the model takes a batch")),
    ]
    for module, batch, message in cases:
        init = functools.partial(module.init, train=False)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(init, jax.random.key(0), batch)
