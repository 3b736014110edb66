"""Decoder-only transformers that predict the next token (Radford et al. 2019)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Int, Num

from sam_jax import checks
from sam_jax.models import initialization, inputs, transformer
from sam_jax.models.simple import dense
from sam_jax.models.transformer import Tokens

EPSILON = 1e-5
POSITIONS = ("learned", "rotary")

# Table 2 of Radford et al. 2019 (GPT-2), with the number of heads of their code.
SIZES = {
    "small": {"depth": 12, "width": 768, "heads": 12},
    "medium": {"depth": 24, "width": 1024, "heads": 16},
    "large": {"depth": 36, "width": 1280, "heads": 20},
    "xl": {"depth": 48, "width": 1600, "heads": 25},
}


class GPT(nn.Module):
    """Embedded tokens, causal blocks, norm, logits of the next token at every position.

    Called with (tokens, train): integers [batch, length], each in [0, num_classes).
    The logits at position t depend on the tokens 0..t alone.

    Attributes:
      num_classes: size of the vocabulary, >= 1.
      depth: number of blocks. width: features of a token. heads: divides the width.
      mlp_ratio: hidden units of a block over the width.
      positions: "learned", a vector for each of max_length positions; or "rotary", for
        sequences of any length (Su et al. 2021), which needs an even width of a head.
      max_length: longest sequence that learned positions take.
      tied: the logits are products with the embeddings of the tokens (Press & Wolf
        2017); otherwise there is a head of its own, without bias.
      norm: "layer" or "rms" (Zhang & Sennrich 2019).
      dropout: rate, of the embeddings and in every block.
      scan: whether the blocks are compiled once, as a loop (see transformer.stack).
      dtype: of the computation; None follows the parameters.
    """

    num_classes: int
    depth: int = 4
    width: int = 128
    heads: int = 4
    mlp_ratio: int = 4
    positions: str = "learned"
    max_length: int = 1024
    tied: bool = True
    norm: str = "layer"
    dropout: float = 0.0
    scan: bool = False
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        checks.integer("max_length", self.max_length, 1)
        checks.choose("positions", self.positions, dict.fromkeys(POSITIONS))
        transformer.check(
            depth=self.depth,
            width=self.width,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            norm=self.norm,
            dropout=self.dropout,
        )
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(
                f"Received width={self.width} and heads={self.heads} with "
                "positions='rotary', which turns pairs of features; give heads of an "
                "even width."
            )
        inputs.check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, tokens: Num[ArrayLike, "batch ..."], train: bool
    ) -> Float[Array, "batch length vocabulary"]:
        ids = inputs.as_tokens(tokens)
        embed = nn.Embed(self.num_classes, self.width, dtype=self.dtype, name="embed")
        x = embed(ids)
        if self.positions == "learned":
            x = x + self._positions(ids).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = transformer.stack(
            x,
            train,
            depth=self.depth,
            scan=self.scan,
            heads=self.heads,
            hidden=self.mlp_ratio * self.width,
            causal=True,
            norm=self.norm,
            epsilon=EPSILON,
            rotary=self.positions == "rotary",
            dropout=self.dropout,
            dtype=self.dtype,
        )
        x = transformer.normalization(self.norm, EPSILON, self.dtype)(name="norm")(x)
        return embed.attend(x) if self.tied else self._head(x)

    def _positions(
        self, ids: Int[Array, "batch length"]
    ) -> Float[Array, "length width"]:
        length = ids.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"Received sequences of {length} tokens for max_length="
                f"{self.max_length} learned positions; give max_length={length} or "
                "more, shorter sequences, or positions='rotary'."
            )
        shape = (self.max_length, self.width)
        table = self.param("positions", initialization.token_embedding, shape)
        return jnp.asarray(table)[:length]

    def _head(self, x: Tokens) -> Float[Array, "batch length vocabulary"]:
        head = dense(self.num_classes, use_bias=False, dtype=self.dtype, name="head")
        return head(x)
