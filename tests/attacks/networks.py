"""Networks to attack: those of the reference file, linear ones, and random ones."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

REFERENCE = pathlib.Path(__file__).parents[1] / "reference" / "autoattack_digits.npz"
SETTINGS = [(net, norm) for net in ("adv", "plain") for norm in ("linf", "l2")]


@functools.cache
def reference():
    with np.load(REFERENCE) as saved:
        return dict(saved)


def images_and_labels(count=256):
    data = reference()
    x = jnp.asarray(data["x"][:count] / np.float32(16))
    return x, jnp.asarray(data["y"][:count])


def conv_net(params, x):
    """The reference's network, written anew on explicit parameters."""
    for name, stride in (("conv1", 1), ("conv2", 2)):
        x = jax.lax.conv_general_dilated(
            x,
            params[f"{name}_w"],
            (stride, stride),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + params[f"{name}_b"])
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ params["fc1_w"] + params["fc1_b"])
    return x @ params["fc2_w"] + params["fc2_b"]


@functools.cache
def network(net):
    prefix = f"{net}/params/"
    return Partial(
        conv_net,
        {
            name.removeprefix(prefix): jnp.asarray(value)
            for name, value in reference().items()
            if name.startswith(prefix)
        },
    )


def affine(weights, x):
    return x.reshape(len(x), -1) @ weights["w"] + weights["b"]


def random_linear(seed, classes=2, shape=(3, 3, 1), dtype=np.float64):
    """An affine network whose boundary goes through the middle of the images."""
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    w = rng.normal(size=(d, classes)).astype(dtype)
    x = rng.uniform(0.3, 0.7, size=(16, *shape)).astype(dtype)
    b = -(w * 0.5).sum(0)
    predict = Partial(affine, {"w": jnp.asarray(w), "b": jnp.asarray(b)})
    return predict, w, b, jnp.asarray(x), jnp.argmax(predict(x), axis=1)


def mlp(params, x):
    h = jax.nn.relu(x.reshape(len(x), -1) @ params["a"])
    return h @ params["c"]


def random_mlp(seed, classes, shape=(6, 6, 1)):
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    params = {
        "a": jnp.asarray(rng.normal(size=(d, 16)) / d**0.5),
        "c": jnp.asarray(rng.normal(size=(16, classes))),
    }
    x = jnp.asarray(rng.uniform(size=(8, *shape)))
    # Some pixels at the ends of the interval.
    x = jnp.where(x < 0.1, 0.0, jnp.where(x > 0.9, 1.0, x))
    return Partial(mlp, params), x, jnp.argmax(mlp(params, x), axis=1)


def lengths(delta, norm):
    flat = np.abs(np.asarray(delta, np.float64)).reshape(len(delta), -1)
    return flat.max(1) if norm == "linf" else np.sqrt((flat**2).sum(1))
