"""The networks and batches that steps are timed on, with random data."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import losses, models
from sam_jax.core.objective import Objective


class Problem(NamedTuple):
    """objective, params, batch: what a gradient is taken of."""

    objective: Objective
    params: Any
    batch: Any


class Encoder(nn.Module):
    """A pre-norm transformer encoder on token ids, mean-pooled to class logits."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    tokens: int = 1000
    num_classes: int = 10

    @nn.compact
    def __call__(self, ids, train: bool = False):
        x = nn.Embed(self.tokens, self.width)(ids)
        x = x + self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(self.layers):
            h = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(self.heads)(h)
            h = nn.Dense(4 * self.width)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(h))
        return nn.Dense(self.num_classes)(nn.LayerNorm()(x).mean(1))


RESNET = {"width": 16, "norm": "group"}
NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "MLP 784-1024-1024-10": (
        models.create("mlp", num_classes=10, widths=(1024, 1024)),
        (28, 28, 1),
    ),
    "conv net 28x28": (models.create("conv_net", num_classes=10), (28, 28, 1)),
    "ResNet-18 w16 8x8": (
        models.create("preact_resnet18", num_classes=10, **RESNET),
        (8, 8, 1),
    ),
    "ResNet-18 w16 32x32": (
        models.create("preact_resnet18", num_classes=10, **RESNET),
        (32, 32, 3),
    ),
    "encoder d128, 64 tokens": (Encoder(), (64,)),
    "ViT-Ti/4 28x28": (
        models.create("vit_tiny", num_classes=10, patch=4),
        (28, 28, 1),
    ),
}
GPT = {"width": 256, "heads": 4, "max_length": 128, "scan": True, "tied": True}
LETTERS = 256  # in the vocabulary of a GPT, as for text in bytes


def make_gpt(depth: int, n: int) -> Problem:
    """A GPT of as many layers, compiled as a loop, with n random sequences; the loss of
    a sequence is the mean over its tokens.
    """
    module = models.create("gpt", num_classes=LETTERS, depth=depth, **GPT)
    random = np.random.default_rng(0)
    tokens = jnp.asarray(random.integers(0, LETTERS, (n, GPT["max_length"] + 1)))
    params = module.init(jax.random.key(0), tokens[:1, :-1], False)["params"]

    def predict(params: Any, batch: Any) -> jax.Array:
        return module.apply({"params": params}, batch["tokens"][:, :-1], train=True)

    def loss(logits: jax.Array, batch: Any) -> jax.Array:
        return losses.over_tokens(losses.cross_entropy)(logits, batch["tokens"][:, 1:])

    return Problem(Objective(predict, loss), params, {"tokens": tokens})


def make(name: str, n: int, *, side_by_side: bool = False) -> Problem:
    """A network with fresh parameters and n random examples.

    Args:
      side_by_side: whether it is for `vmap` over its weights.
    """
    if name == "GPT d256, 4 layers":
        return make_gpt(4, n)
    module, shape = NETWORKS[name]
    module = models.side_by_side(module) if side_by_side else module
    random = np.random.default_rng(0)
    if isinstance(module, Encoder):
        inputs = jnp.asarray(random.integers(0, module.tokens, (n, *shape)))
        params = module.init(jax.random.key(0), inputs[:1])["params"]
    else:
        inputs = jnp.asarray(random.standard_normal((n, *shape)), jnp.float32)
        params = models.initialize(module, jax.random.key(0), shape)["params"]
    labels = jnp.asarray(random.integers(0, 10, n))
    objective = Objective(
        lambda p, b: module.apply({"params": p}, b["inputs"], train=True),
        lambda logits, b: losses.cross_entropy(logits, b["labels"]),
    )
    return Problem(objective, params, {"inputs": inputs, "labels": labels})
