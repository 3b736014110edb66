"""Networks in flax linen, called with (images [B, H, W, C], train) -> logits."""

from sam_jax import extras

with extras.needed("sam_jax.models", "train"):
    from sam_jax.models.factory import MODELS, allowed_options, create
    from sam_jax.models.initialization import initialize
    from sam_jax.models.preact_resnet import PreActResNet
    from sam_jax.models.simple import MLP, ConvNet, Linear

__all__ = [
    "MLP",
    "MODELS",
    "ConvNet",
    "Linear",
    "PreActResNet",
    "allowed_options",
    "create",
    "initialize",
]
