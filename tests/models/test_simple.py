"""Small networks against NumPy and a network trained elsewhere."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import models

REFERENCE = Path(__file__).parents[1] / "reference" / "conv_net.npz"


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (4, 5, 4, 2))


def initialized(name, images, **options):
    model = models.create(name, num_classes=3, **options)
    key = jax.random.key(1)
    return model, models.initialize(model, key, images.shape[1:], jnp.float64)


def test_linear_is_a_matrix_product(images):
    model, variables = initialized("linear", images)
    head = variables["params"]["head"]
    head["bias"] = jnp.array([1.0, 2.0, 3.0])
    expected = np.reshape(images, (4, 40)) @ head["kernel"] + head["bias"]
    received = model.apply(variables, images, train=True)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_linear_without_bias_maps_zero_to_zero(images):
    model, variables = initialized("linear", images, use_bias=False)
    assert set(variables["params"]["head"]) == {"kernel"}
    np.testing.assert_array_equal(model.apply(variables, 0 * images, train=True), 0)


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)],
)
def test_mlp_is_products_and_activations(images, activation, function):
    options = {"widths": (7, 6), "activation": activation}
    model, variables = initialized("mlp", images, **options)
    x = np.reshape(images, (4, 40))
    for name in ("dense1", "dense2", "head"):
        layer = variables["params"][name]
        x = x @ layer["kernel"] + layer["bias"]
        x = x if name == "head" else function(x)
    received = model.apply(variables, images, train=True)
    np.testing.assert_allclose(received, x, rtol=1e-12)


def test_conv_net_has_the_logits_of_the_reference_network():
    with np.load(REFERENCE) as file:
        reference = dict(file)
    names = {"conv1": "conv1", "conv2": "conv2", "dense": "fc1", "head": "fc2"}
    params = {
        ours: {
            "kernel": reference[f"{theirs}_w"].astype(float),
            "bias": reference[f"{theirs}_b"].astype(float),
        }
        for ours, theirs in names.items()
    }
    model = models.create("conv_net", num_classes=10)
    x = reference["x"] / 16.0
    received = model.apply({"params": params}, x, train=False)
    np.testing.assert_allclose(received, reference["logits"], atol=2e-5)


def test_conv_net_takes_odd_sizes(images):
    model, variables = initialized("conv_net", images, widths=(2, 3, 4), hidden=5)
    assert variables["params"]["dense"]["kernel"].shape == (2 * 1 * 4, 5)
    assert model.apply(variables, images, train=True).shape == (4, 3)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_vectors_are_images_too(name):
    model = models.create(name, num_classes=2)
    variables = models.initialize(model, jax.random.key(0), (9,))
    assert model.apply(variables, jnp.ones((3, 9)), train=True).shape == (3, 2)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_single_example_without_batch_axis_is_refused(name):
    model = models.create(name, num_classes=2)
    with pytest.raises(ValueError, match=r"shape \(9,\).*inputs\[None\]"):
        model.init(jax.random.key(0), jnp.ones(9), train=True)


@pytest.mark.parametrize("name", ["conv_net", "preact_resnet18"])
def test_images_without_channels_are_refused(name):
    model = models.create(name, num_classes=2)
    with pytest.raises(ValueError, match=r"shape \(4, 8, 8\).*images\[\.\.\., None\]"):
        model.init(jax.random.key(0), jnp.ones((4, 8, 8)), train=True)
