"""A network of convolutions and a block of a GPT on a mesh with Explicit axes.

Their weights are split over two devices, and each is gathered where it is used.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_jax

B, LENGTH, WIDTH, HEADS, TOKENS = 16, 5, 8, 2, 6
WHOLE = PartitionSpec()
WHOLE_BATCH = {"sam": sam_jax.sam, "asam": sam_jax.asam, "gsam": sam_jax.gsam}
# JAX refuses reshapes of convolutions in groups, see docs/sharp-edges.md.
CASES = {"convolutions": WHOLE_BATCH, "gpt": WHOLE_BATCH | {"sum_max": sam_jax.sum_max}}


class Network(NamedTuple):
    """specs: how its parameters are split, a tree like params."""

    predict: Callable
    params: dict
    specs: dict
    batch: dict


def on_explicit_mesh(x):
    mesh = jax.typeof(x).sharding.mesh
    return not mesh.empty and mesh.are_all_axes_explicit


def gathered(predict):
    """A network on weights that are whole wherever it uses them."""

    def on_whole(params, batch):
        if on_explicit_mesh(batch["x"]):
            params = jax.tree.map(lambda w: jax.sharding.reshard(w, WHOLE), params)
        return predict(params, batch)

    return on_whole


def norm(x, axes, scale):
    x = x - jnp.mean(x, axes, keepdims=True)
    return x / jnp.sqrt(jnp.mean(x**2, axes, keepdims=True) + 1e-6) * scale


def convolutions(p, batch):
    """Two convolutions, GroupNorm after the first."""
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = convolve(batch["x"], p["first"], (1, 1))
    grouped = x.reshape(*x.shape[:3], 2, x.shape[3] // 2)
    x = norm(grouped, (1, 2, 4), 1.0).reshape(x.shape) * p["scale"]
    x = convolve(jnp.tanh(x), p["second"], (2, 2))
    return jnp.tanh(x).mean((1, 2)) @ p["head"]


def gpt_block(p, batch):
    """Causal attention and an MLP between tied embeddings."""
    tokens = batch["x"]
    x = jax.nn.one_hot(tokens, TOKENS, dtype=p["embed"].dtype) @ p["embed"]
    x = x + p["positions"]
    h = norm(x, -1, p["first scale"])
    q, k, v = (
        (h @ p[name]).reshape(*h.shape[:2], HEADS, -1) for name in ("q", "k", "v")
    )
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(WIDTH / HEADS)
    scores = jnp.where(np.tril(np.ones((LENGTH, LENGTH), bool)), scores, -1e9)
    seen = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
    x = x + seen.reshape(h.shape) @ p["out"]
    h = norm(x, -1, p["second scale"])
    x = x + jax.nn.gelu(h @ p["up"]) @ p["down"]
    return x @ p["embed"].T


def draw(shapes):
    random = np.random.default_rng(0)

    def one(name, shape):
        value = random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[:-1])))
        return jnp.asarray(value + ("scale" in name))

    return {name: one(name, shape) for name, shape in shapes.items()}


def small_gpt():
    square, wide = (WIDTH, WIDTH), (WIDTH, 2 * WIDTH)
    shapes = dict.fromkeys(("q", "k", "v", "out"), square)
    shapes |= {"embed": (TOKENS, WIDTH), "positions": (LENGTH, WIDTH)}
    shapes |= {"first scale": (WIDTH,), "second scale": (WIDTH,)}
    shapes |= {"up": wide, "down": wide[::-1]}
    text = np.random.default_rng(1).integers(0, TOKENS, (B, LENGTH + 1))
    batch = {"x": jnp.asarray(text[:, :-1]), "y": jnp.asarray(text[:, 1:])}
    return Network(gathered(gpt_block), draw(shapes), last_split(shapes), batch)


def small_convolutions():
    shapes = {"first": (3, 3, 2, 4), "scale": (4,), "second": (3, 3, 4, 4)}
    shapes |= {"head": (4, 3)}
    random = np.random.default_rng(1)
    batch = {
        "x": jnp.asarray(random.standard_normal((B, 4, 4, 2))),
        "y": jnp.asarray(random.integers(0, 3, B)),
    }
    specs = last_split(shapes) | {"head": PartitionSpec("model")}
    return Network(gathered(convolutions), draw(shapes), specs, batch)


def last_split(shapes):
    """Every weight along its last dimension."""
    return {
        name: PartitionSpec(*[None] * (len(shape) - 1), "model")
        for name, shape in shapes.items()
    }


def loss(outputs, batch):
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"])
    return losses.mean(range(1, losses.ndim))


def updates(predict, cases, params, batch):
    """Those of every case, in one program."""
    objective = sam_jax.Objective(predict, loss)
    gradient = jax.grad(objective.value)(params, batch)
    found = {}
    for name, factory in cases.items():
        tx = factory(0.3)
        state = tx.init(params)
        given = {"objective": objective, "batch": batch}
        found[name] = tx.update(gradient, state, params, **given)[0]
    return found


NETWORKS = {"convolutions": small_convolutions, "gpt": small_gpt}


def pairs():
    """(name, received on the mesh, expected on one device) for every network."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    for name, make in NETWORKS.items():
        network = make()
        step = jax.jit(functools.partial(updates, network.predict, CASES[name]))
        expected = jax.device_get(step(network.params, network.batch))
        with jax.set_mesh(mesh):
            where = jax.tree.map(lambda s: NamedSharding(mesh, s), network.specs)
            params = jax.device_put(network.params, where)
            rows = NamedSharding(mesh, PartitionSpec("data"))
            batch = jax.device_put(network.batch, rows)
            received = step(params, batch)
        yield name, received, expected
