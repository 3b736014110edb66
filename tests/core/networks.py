"""Small networks of every kind that the implicit path has to know, with their data."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sam_jax import losses, models
from sam_jax.core.objective import Objective

N, CLASSES, TOKENS, LENGTH = 8, 3, 11, 6


class Problem(NamedTuple):
    objective: Objective
    params: dict
    batch: dict


def loss(logits, batch):
    return losses.cross_entropy(logits, batch["y"])


def half_square(params):
    return 0.025 * sum(jnp.vdot(p, p) for p in jax.tree.leaves(params))


def inputs(shape, integers=False):
    random = np.random.default_rng(0)
    if integers:
        return jnp.asarray(random.integers(0, TOKENS, (N, *shape)))
    return jnp.asarray(random.standard_normal((N, *shape)))


def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, CLASSES, N))


class Convolutions(nn.Module):
    """Strides, paddings, dilations, feature groups and a transposed convolution."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, padding=((0, 1), (2, 1)))(x))
        x = jnp.tanh(nn.Conv(6, (3, 2), kernel_dilation=(1, 2), padding="SAME")(x))
        x = nn.gelu(nn.Conv(6, (3, 3), feature_group_count=3, padding="CIRCULAR")(x))
        x = nn.ConvTranspose(4, (2, 2), strides=(2, 2))(x)
        x = nn.Conv(4, (1, 1), strides=2, use_bias=False)(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


class Encoder(nn.Module):
    """Attention and a layer called three times; embeddings shared with the output."""

    shared: bool

    @nn.compact
    def __call__(self, ids, train=False):
        embed = nn.Embed(TOKENS, 8)
        layer = nn.Dense(8)
        x = embed(ids)
        for _ in range(3):
            x = x + nn.gelu(layer(nn.LayerNorm()(x)))
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = x + nn.Conv(8, (3,), feature_group_count=8)(x)
        x = embed.attend(x) if self.shared else nn.Dense(7)(x)
        return nn.Dense(CLASSES)(x.mean(1))


def linen_problem(module, x):
    """Parameters are drawn by NumPy: flax would compile one program for each shape."""
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x[:2])["params"]
    random = np.random.default_rng(3)

    def draw(path, leaf):
        fan_in = max(leaf.size // leaf.shape[-1], 1) if leaf.ndim > 1 else 100
        values = random.standard_normal(leaf.shape) / np.sqrt(fan_in)
        return jnp.asarray(values + (path[-1].key == "scale"))

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    objective = Objective(
        lambda p, b: module.apply({"params": p}, b["x"], train=True), loss
    )
    return Problem(objective, params, {"x": x, "y": labels()})


def library(name, shape, **options):
    return linen_problem(
        models.create(name, num_classes=CLASSES, **options), inputs(shape)
    )


def nnx_problem():
    model = nnx.Sequential(
        nnx.Linear(5, 7, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(7, 3, rngs=nnx.Rngs(1))
    )
    graph, params = nnx.split(model, nnx.Param)
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    objective = Objective(lambda p, b: nnx.merge(graph, p)(b["x"]), loss)
    return Problem(objective, params, {"x": inputs((5,)), "y": labels()})


def bare(predict, **shapes):
    random = np.random.default_rng(2)
    params = {k: jnp.asarray(random.standard_normal(s)) for k, s in shapes.items()}
    return Problem(Objective(predict, loss), params, {"x": inputs((5,)), "y": labels()})


def weight_first(p, b):
    """W x instead of x W, then a weight seen through transpose and reshape."""
    hidden = jnp.tanh(jnp.einsum("hk,bk->bh", p["w"], b["x"]))
    return hidden @ p["v"].T.reshape(4, 3)


PROBLEMS = {
    "linear": lambda: library("linear", (4, 4, 1)),
    "mlp": lambda: library("mlp", (4, 4, 1), widths=(7, 5)),
    "conv_net": lambda: library("conv_net", (8, 8, 1), widths=(3, 4), hidden=6),
    "resnet": lambda: linen_problem(
        models.PreActResNet(CLASSES, stage_sizes=(1, 1), width=4, norm="group"),
        inputs((4, 4, 2)),
    ),
    "convolutions": lambda: linen_problem(Convolutions(), inputs((9, 8, 2))),
    "encoder": lambda: linen_problem(Encoder(False), inputs((LENGTH,), True)),
    "encoder, tied": lambda: linen_problem(Encoder(True), inputs((LENGTH,), True)),
    "nnx": nnx_problem,
    "weight first": lambda: bare(weight_first, w=(4, 5), v=(3, 4)),
}
