"""Models by name: what is made, and what the errors tell."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import models
from sam_jax.models import gpt, vit

TINY = {
    "linear": {},
    "mlp": {"widths": [4]},
    "conv_net": {"widths": [2], "hidden": 3},
    "preact_resnet10": {"width": 2},
    "preact_resnet18": {"width": 2, "axis_name": "d", "axis_index_groups": [[0, 1]]},
    "preact_resnet34": {"width": 2, "norm": "group"},
    "vit": {"depth": 1, "width": 4, "heads": 2, "patch": 1},
    **{f"vit_{size}": {"patch": 1, "scan": True} for size in vit.SIZES},
    "gpt": {"depth": 1, "width": 4, "heads": 2},
    **{f"gpt_{size}": {"scan": True} for size in gpt.SIZES},
}
OF_IMAGES = [name for name in models.MODELS if not name.startswith("gpt")]


def test_every_name_is_tried_here():
    assert set(TINY) == set(models.MODELS)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("image_shape", [(8, 8, 1), (11, 9, 3)])
def test_every_model_maps_images_to_logits(name, image_shape):
    model = models.create(name, num_classes=7, **TINY[name])

    def logits(images):
        variables = model.init(jax.random.key(0), images, train=False)
        return model.apply(variables, images, train=False)

    images = jax.ShapeDtypeStruct((3, *image_shape), jnp.float32)
    received = jax.eval_shape(logits, images)
    assert (received.shape, received.dtype) == ((3, 7), jnp.float32)


@pytest.mark.parametrize("name", sorted(set(models.MODELS) - set(OF_IMAGES)))
def test_every_language_model_maps_tokens_to_logits_of_the_next_one(name):
    model = models.create(name, num_classes=7, **TINY[name])

    def logits(tokens):
        variables = model.init(jax.random.key(0), tokens, train=False)
        return model.apply(variables, tokens, train=False)

    received = jax.eval_shape(logits, jax.ShapeDtypeStruct((3, 5), jnp.uint8))
    assert (received.shape, received.dtype) == ((3, 5, 7), jnp.float32)


@pytest.mark.parametrize("name", ["linear", "mlp", "conv_net", "vit"])
def test_the_compute_dtype_is_that_of_the_logits(name):
    images = jnp.linspace(0, 1, 2 * 64, dtype=jnp.float32).reshape(2, 8, 8, 1)
    model = models.create(name, num_classes=3, **TINY[name])
    half = models.create(name, num_classes=3, dtype="bfloat16", **TINY[name])
    variables = models.initialize(model, jax.random.key(0), (8, 8, 1))
    expected, received = (
        jax.jit(functools.partial(net.apply, train=True))(variables, images)
        for net in (model, half)
    )
    assert (expected.dtype, received.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(received.astype(float), expected, atol=0.03)


@pytest.mark.parametrize("name", models.MODELS)
def test_models_are_hashable_so_that_their_methods_can_be_jitted(name):
    def make():
        return models.create(name, num_classes=3, **TINY[name])

    assert hash(make()) == hash(make())
    assert make() == make()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'resnet50'; known: linear, mlp, conv_net, "):
        models.create("resnet50", num_classes=10)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("mlp", "width", "has no option 'width'; its options: widths, activation"),
        ("preact_resnet18", "stage_sizes", "options: width, norm, groups, dtype, axis"),
        ("preact_resnet18", "parent", "has no option 'parent'"),
    ],
)
def test_an_unknown_option_lists_the_allowed_ones(name, option, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, num_classes=10, **{option: 3})


@pytest.mark.parametrize("name", models.MODELS)
def test_a_model_without_classes_is_refused(name):
    with pytest.raises(ValueError, match="num_classes=0; give an integer >= 1"):
        models.create(name, num_classes=0)


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("dtype", ["bf16", "int8", "no dtype"])
def test_a_compute_dtype_that_is_not_floating_is_refused(name, dtype):
    with pytest.raises(ValueError, match=rf"dtype='{dtype}'; give a floating dtype"):
        models.create(name, num_classes=3, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"widths": (4, 0)}, "widths=0; give an integer >= 1"),
        ("mlp", {"activation": "swish"}, "'swish'; known: relu, tanh, gelu"),
        ("conv_net", {"widths": ()}, "number of widths=0"),
        ("conv_net", {"hidden": 0}, "hidden=0"),
        ("preact_resnet18", {"width": 0}, "width=0; give an integer >= 1"),
        ("preact_resnet18", {"width": -4, "norm": "group"}, "width=-4"),
        ("preact_resnet18", {"norm": "layer"}, "'layer'; known: batch, group"),
        ("preact_resnet18", {"groups": 4}, "groups=4 with norm='batch'"),
        (
            "preact_resnet18",
            {"width": 16, "norm": "group", "groups": 3},
            r"3 groups do not divide width=16.*\[1, 2, 4, 8, 16\]",
        ),
        (
            "preact_resnet18",
            {"width": 5, "norm": "group"},
            r"2 groups do not divide width=5.*\[1, 5\]",
        ),
        ("preact_resnet18", {"norm": "group", "groups": 0}, "groups=0"),
        (
            "preact_resnet18",
            {"axis_index_groups": [[0, 1]]},
            "without an axis_name; name the mapped axis",
        ),
    ],
)
def test_values_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, num_classes=10, **options)
