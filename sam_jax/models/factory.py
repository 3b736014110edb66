"""Models by name."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn

from sam_jax import checks
from sam_jax.models.preact_resnet import PreActResNet
from sam_jax.models.simple import MLP, ConvNet, Linear


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
}


def create(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """The model of this name; it is called with (images [B, H, W, C], train) -> logits.

    Args:
      name: "linear", "mlp", "conv_net", or "preact_resnet" with 10, 18 or 34.
      num_classes: number of logits.
      options: attributes of the model's class, such as width=16, norm="group".

    Raises: ValueError for an unknown name or option, listing the known ones, and for
      values that the class refuses.
    """
    module, fixed = checks.choose("model", name, MODELS)
    checks.options(f"model {name!r}", options, allowed_options(name))
    return module(num_classes=num_classes, **fixed, **options)


def allowed_options(name: str) -> list[str]:
    """Names of the options of a model."""
    module, fixed = checks.choose("model", name, MODELS)
    taken = {"num_classes", "parent", "name", *fixed}
    return [f.name for f in dataclasses.fields(module) if f.name not in taken]
