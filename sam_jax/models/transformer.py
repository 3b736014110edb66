"""Pre-norm transformer layers: what the vision transformer and the GPT share."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from sam_jax import checks
from sam_jax.models import inputs
from sam_jax.models.simple import dense

NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
ROTATION_BASE = 10_000.0  # of the rotary angles (Su et al. 2021, Sec. 3.2.2)

Tokens = Float[Array, "batch tokens width"]
Heads = Float[Array, "batch tokens heads size"]


def attend(query: Heads, key: Heads, value: Heads, *, causal: bool) -> Heads:
    """softmax(q k^T / sqrt(size)) v for every head (Vaswani et al. 2017, Eq. 1).

    By `jax.nn.dot_product_attention`, which has fused kernels on accelerators. It takes
    the softmax in float32 whatever it is given, so that float64 has a way of its own.

    Args:
      causal: token t sees the tokens 0..t alone.
    """
    if query.dtype != jnp.float64:
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    scores = jnp.einsum("btnh,bsnh->bnts", query, key) * query.shape[-1] ** -0.5
    if causal:
        seen = jnp.tri(scores.shape[-1], dtype=bool)
        scores = jnp.where(seen, scores, -jnp.inf)
    return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores, axis=-1), value)


def rotate(x: Heads) -> Heads:
    """Rotary positions (RoPE, Su et al. 2021, Eq. 34).

    The pair (x_i, x_{i + size/2}) of token t is turned by the angle t base^(-2i/size).
    The product of a query at s and a key at t then depends on s - t alone.
    """
    half = x.shape[-1] // 2
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    speed = ROTATION_BASE ** (-jnp.arange(half, dtype=dtype) / half)
    angle = jnp.arange(x.shape[1], dtype=dtype)[:, None, None] * speed
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Self-attention in several heads, with biases.

    Attributes:
      heads: divides the width of the tokens.
      causal: whether a token sees itself and those before it alone.
      rotary: whether queries and keys are rotated by their positions.
      dtype: of the computation; None follows inputs and parameters.
    """

    heads: int
    causal: bool
    rotary: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        width = x.shape[-1]

        def project(name: str) -> Heads:
            y = dense(width, dtype=self.dtype, name=name)(x)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads)

        query, key, value = map(project, ("query", "key", "value"))
        if self.rotary:
            query, key = rotate(query), rotate(key)
        mixed = attend(query, key, value, causal=self.causal)
        return dense(width, dtype=self.dtype, name="out")(mixed.reshape(x.shape))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with one hidden layer and GELU.

    Attributes:
      hidden: units of the hidden layer.
      norm: "layer" or "rms". epsilon: of the norm.
      dropout: rate, of both branches before they are added.
      heads, causal, rotary, dtype: see Attention.
    """

    heads: int
    hidden: int
    causal: bool
    norm: str
    epsilon: float
    rotary: bool = False
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Tokens, train: bool) -> Tokens:
        norm = normalization(self.norm, self.epsilon, self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = Attention(
            self.heads, self.causal, self.rotary, self.dtype, name="attention"
        )
        x = x + drop(attention(norm(name="norm1")(x)))
        y = dense(self.hidden, dtype=self.dtype, name="dense1")(norm(name="norm2")(x))
        y = dense(x.shape[-1], dtype=self.dtype, name="dense2")(nn.gelu(y))
        return x + drop(y)


def normalization(norm: str, epsilon: float, dtype: DTypeLike | None) -> Any:
    """(name) -> the normalisation over the features of a token."""
    return lambda name: NORMS[norm](epsilon=epsilon, dtype=dtype, name=name)


def stack(x: Tokens, train: bool, *, depth: int, scan: bool, **options: Any) -> Tokens:
    """`depth` blocks one after another; to be called in a module's compact method.

    Args:
      scan: compile one block and loop over it. Parameters are then those of `blocks`,
        with the number of the layer as their leading axis; otherwise those of `block1`,
        `block2` and so on. The time to compile no longer grows with the depth.
      options: attributes of Block.
    """
    if not scan:
        for i in range(1, depth + 1):
            x = Block(**options, name=f"block{i}")(x, train)
        return x
    layers = nn.scan(
        lambda block, x, _: (block(x, train), None),
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
    return layers(Block(**options, name="blocks"), x, None)[0]


def check(
    *, depth: int, width: int, heads: int, mlp_ratio: int, norm: str, dropout: float
) -> None:
    """Raises ValueError for attributes of which no transformer can be made."""
    checks.integer("depth", depth, 1)
    checks.integer("width", width, 1)
    checks.integer("heads", heads, 1)
    checks.integer("mlp_ratio", mlp_ratio, 1)
    checks.choose("norm of a transformer", norm, NORMS)
    checks.number("dropout", dropout, 0, 1)
    if width % heads:
        raise ValueError(
            f"Received heads={heads} for width={width}; the heads must divide the "
            f"width: {inputs.divisors(width)}."
        )
