"""Models by name."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn

from sam_jax import checks
from sam_jax.models import gpt, initialization, own, vit
from sam_jax.models.gpt import GPT
from sam_jax.models.preact_resnet import PreActResNet
from sam_jax.models.simple import MLP, ConvNet, Linear
from sam_jax.models.vit import VisionTransformer
from sam_jax.ops.convolution import conv_by_columns


class Entry(NamedTuple):
    """A module class, and the fields that the name fixes."""

    module: type[nn.Module]
    fixed: dict[str, Any]


MODELS = {
    "linear": Entry(Linear, {}),
    "mlp": Entry(MLP, {}),
    "conv_net": Entry(ConvNet, {}),
    "preact_resnet10": Entry(PreActResNet, {"stage_sizes": (1, 1, 1, 1)}),
    "preact_resnet18": Entry(PreActResNet, {"stage_sizes": (2, 2, 2, 2)}),
    "preact_resnet34": Entry(PreActResNet, {"stage_sizes": (3, 4, 6, 3)}),
    "vit": Entry(VisionTransformer, {}),
    **{f"vit_{size}": Entry(VisionTransformer, f) for size, f in vit.SIZES.items()},
    "gpt": Entry(GPT, {}),
    **{f"gpt_{size}": Entry(GPT, fixed) for size, fixed in gpt.SIZES.items()},
}


def create(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """The model of this name; it is called with (images [B, H, W, C], train) -> logits.

    A GPT is called with (tokens [B, length], train) -> logits [B, length, num_classes].

    Args:
      name: "linear", "mlp", "conv_net"; "preact_resnet" with 10, 18 or 34; "vit", or of
        published size "vit_" with tiny, small or base; "gpt", or of published size
        "gpt_" with small, medium, large or xl; or "package.module:attribute", a
        network of your own, see `own.CONTRACT`.
      num_classes: number of logits; of a GPT the size of its vocabulary.
      options: attributes of the model's class, such as width=16, norm="group".

    Raises: ValueError for an unknown name or option, listing the known ones, and for
      values that the class refuses.
    """
    if ":" in name:
        source = checks.imported("network", name)
        return own.create(source, name, num_classes, **options)
    module, fixed = checks.choose("model", name, MODELS)
    checks.options(f"model {name!r}", options, allowed_options(name))
    return module(num_classes=num_classes, **fixed, **options)


def allowed_options(name: str) -> list[str]:
    """Names of the options of a model."""
    if ":" in name:
        return own.allowed_options(checks.imported("network", name))
    module, fixed = checks.choose("model", name, MODELS)
    taken = {"num_classes", "convolve", "parent", "name", *fixed}
    return [f.name for f in dataclasses.fields(module) if f.name not in taken]


def side_by_side(module: nn.Module) -> nn.Module:
    """The same network, fast under `vmap` over its weights where it is one of ours."""
    if isinstance(module, ConvNet | PreActResNet):
        return module.clone(convolve=conv_by_columns)
    return module


def start(module: nn.Module, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """A network's variables before training: of those of MODELS by `initialize`, of
    others by their own initialisers. The arguments are those of `initialize`.
    """
    known = type(module) in {entry.module for entry in MODELS.values()}
    return (initialization if known else own).initialize(module, *args, **kwargs)
