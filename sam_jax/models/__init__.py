"""Networks in flax linen, called with (images [B, H, W, C], train) -> logits.

Language models are called with (tokens [B, length], train) -> logits of the next token.
"""

from sam_jax import extras

with extras.needed("sam_jax.models", "train"):
    from sam_jax.models.factory import (
        MODELS,
        allowed_options,
        create,
        side_by_side,
        start,
    )
    from sam_jax.models.gpt import GPT
    from sam_jax.models.initialization import initialize
    from sam_jax.models.preact_resnet import PreActResNet
    from sam_jax.models.simple import MLP, ConvNet, Linear
    from sam_jax.models.vit import VisionTransformer

__all__ = [
    "GPT",
    "MLP",
    "MODELS",
    "ConvNet",
    "Linear",
    "PreActResNet",
    "VisionTransformer",
    "allowed_options",
    "create",
    "initialize",
    "side_by_side",
    "start",
]
