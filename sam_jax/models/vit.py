"""Vision transformers (Dosovitskiy et al. 2021; small sizes: Touvron et al. 2021)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Num

from sam_jax import checks
from sam_jax.models import initialization, inputs, transformer
from sam_jax.models.simple import dense

EPSILON = 1e-6
# How the tokens of the last layer become one vector: the class token, or the mean over
# the patches.
POOLS = ("class", "mean")

# Table 1 of Touvron et al. 2021 (DeiT), whose B is that of Dosovitskiy et al. 2021.
SIZES = {
    "tiny": {"depth": 12, "width": 192, "heads": 3},
    "small": {"depth": 12, "width": 384, "heads": 6},
    "base": {"depth": 12, "width": 768, "heads": 12},
}


class VisionTransformer(nn.Module):
    """Patches as tokens, a class token, learned positions, blocks, norm, a linear head.

    Every number of positions belongs to one image size: images of another size than at
    initialisation are refused.

    Attributes:
      num_classes: number of logits, >= 1.
      patch: side of a patch in pixels; divides both sides of the image.
      depth: number of blocks. width: features of a token. heads: divides the width.
      mlp_ratio: hidden units of a block over the width.
      registers: further learned tokens, which the head does not read (Darcet et al.
        2024).
      pool: "class" reads the class token; "mean" has none, and reads the mean over the
        patches.
      norm: "layer" or "rms".
      dropout: rate, after the positions and in every block.
      scan: whether the blocks are compiled once, as a loop (see transformer.stack).
      dtype: of the computation; None follows inputs and parameters.
    """

    num_classes: int
    patch: int = 16
    depth: int = 12
    width: int = 192
    heads: int = 3
    mlp_ratio: int = 4
    registers: int = 0
    pool: str = "class"
    norm: str = "layer"
    dropout: float = 0.0
    scan: bool = False
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        checks.integer("patch", self.patch, 1)
        checks.integer("registers", self.registers, 0)
        checks.choose("pool", self.pool, dict.fromkeys(POOLS))
        transformer.check(
            depth=self.depth,
            width=self.width,
            heads=self.heads,
            mlp_ratio=self.mlp_ratio,
            norm=self.norm,
            dropout=self.dropout,
        )
        inputs.check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Num[ArrayLike, "batch ..."], train: bool
    ) -> Float[Array, "batch classes"]:
        patches = cut(inputs.as_images(images), self.patch)
        x = dense(self.width, dtype=self.dtype, name="patches")(patches)
        x = self._with_tokens(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = transformer.stack(
            x,
            train,
            depth=self.depth,
            scan=self.scan,
            heads=self.heads,
            hidden=self.mlp_ratio * self.width,
            causal=False,
            norm=self.norm,
            epsilon=EPSILON,
            dropout=self.dropout,
            dtype=self.dtype,
        )
        norm = transformer.normalization(self.norm, EPSILON, self.dtype)(name="norm")
        if self.pool == "class":
            pooled = norm(x[:, 0])
        else:
            pooled = jnp.mean(norm(x[:, self.registers :]), axis=1)
        return dense(self.num_classes, dtype=self.dtype, name="head")(pooled)

    def _with_tokens(
        self, patches: Float[Array, "batch patches width"]
    ) -> Float[Array, "batch tokens width"]:
        """The class token, the registers, and the patches with their positions.

        The class token has a position; registers have none, as they are nowhere.
        """
        batch, count, _ = patches.shape

        def tokens(name: str, number: int) -> Array:
            shape = (number, self.width)
            value = self.param(name, initialization.token_embedding, shape)
            return value.astype(patches.dtype)

        def everywhere(value: Array) -> Array:
            return jnp.broadcast_to(value, (batch, *value.shape))

        parts = [patches]
        if self.pool == "class":
            parts = [everywhere(tokens("class_token", 1)), patches]
            count += 1
        x = jnp.concatenate(parts, axis=1) + tokens("positions", count)
        if not self.registers:
            return x
        registers = everywhere(tokens("registers", self.registers))
        split = count - patches.shape[1]
        return jnp.concatenate([x[:, :split], registers, x[:, split:]], axis=1)


def cut(
    images: Num[Array, "batch height width channels"], patch: int
) -> Num[Array, "batch patches values"]:
    """The patches of images, row by row, each flattened: rows, columns, channels.

    A dense layer on them is a convolution of stride `patch`, and compiles as a product
    of matrices.
    """
    batch, height, width, channels = images.shape
    if height % patch or width % patch:
        raise ValueError(
            f"Received images of {height} x {width} pixels for patch={patch}; it must "
            "divide both sides."
        )
    rows, columns = height // patch, width // patch
    blocks = images.reshape(batch, rows, patch, columns, patch, channels)
    return blocks.swapaxes(2, 3).reshape(batch, rows * columns, -1)
