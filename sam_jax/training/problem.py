"""From a configuration to its problem: network, loss, gradient, augmentation."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sam_jax import data, losses, models
from sam_jax.core.gradient import Gradient
from sam_jax.models import own as own_networks
from sam_jax.training import consistency, flat_state, own, parallel, robust, sharded
from sam_jax.training import step as steps
from sam_jax.training.configuration import (
    Config,
    ConfigError,
    variant_options,
)
from sam_jax.training.examples import Augment, Examples
from sam_jax.training.feeds import Streamed
from sam_jax.training.keys import KEYS, LOSS_OPTIONS
from sam_jax.transforms import VARIANTS, Point, kernels, norm_layers

# The keys of config.model that are options of a network.
KNOBS = [name.removeprefix("model.") for name in KEYS if name.startswith("model.")]


def create_layout(config: Config) -> parallel.Layout:
    """The devices of a run, and how they share its state and its batches.

    Raises: ConfigError for devices that are not there, or that the mesh does not fit.
    """
    settings = config.parallel
    if settings.kind == "pmap":
        return parallel.layout(config.devices)
    return sharded.layout(
        config.devices,
        settings.data,
        settings.fsdp,
        settings.tensor,
        settings.min_size,
        settings.rules,
    )


def check_batches(config: Config, layout: parallel.Layout) -> None:
    """Checks how batches and groups fit to the devices, and BatchNorm to the groups."""
    parallel.per_device(config.batch_size, layout.shares, "batch_size")
    parallel.per_device(config.eval.batch_size, layout.shares, "eval.batch_size")
    m = consistency.group_size(config)
    consistency.check_groups(m, config.batch_size, layout.shares)
    consistency.check_groups(m, config.batch_size, layout.width)
    if ":" in config.model.name:
        return  # `own.check_network` looks at the network itself
    statistics = "axis_name" in models.allowed_options(config.model.name)
    if m == 1 and statistics and config.model.norm == "batch":
        raise ConfigError(
            "Received model.norm='batch' with groups of one example, for which "
            "BatchNorm's batch statistics are not defined; set model.norm='group', or "
            "a larger sam.m."
        )


def model_options(config: Config) -> dict[str, Any]:
    """Those keys of config.model that its network has and that are set; of a network
    of one's own, model.options.
    """
    options = config.model.options.to_dict()
    if ":" in config.model.name:
        return options
    if options:
        raise ConfigError(
            f"Received model.options={options} with model.name={config.model.name!r}, "
            "whose options are keys of their own, such as model.width; set "
            "model.options={}."
        )
    allowed = models.allowed_options(config.model.name)
    values = {name: getattr(config.model, name) for name in allowed if name in KNOBS}
    return {n: v for n, v in values.items() if v != KEYS[f"model.{n}"].unset}


def create_model(
    config: Config, num_classes: int, width: int, m: int, module: Any = None
) -> nn.Module:
    """The network, its BatchNorm over groups of m examples wherever they are.

    Args:
      width: places of the axis that the step is mapped over.
      module: given from Python, or what makes one; None for that of config.model.
    """
    axes = steps.normalization_axes(m, config.batch_size, width)
    if module is not None:
        known = own_networks.allowed_options(module)
        options = config.model.options.to_dict()
        options |= axes if "axis_name" in known else {}
        return own_networks.create(module, own.GIVEN_MODULE, num_classes, **options)
    if config.model.name == own.GIVEN_MODULE:
        raise ConfigError(f"The network of this run {own.FROM_PYTHON}")
    options = model_options(config)
    if "axis_name" in models.allowed_options(config.model.name):
        options |= axes
    return models.create(config.model.name, num_classes=num_classes, **options)


def create_loss(config: Config) -> steps.Loss:
    """The configured loss, with those keys of config.loss that it has; of sequences its
    mean over their tokens.
    """
    options = {
        option: getattr(config.loss, key.removeprefix("loss."))
        for key, (name, option) in LOSS_OPTIONS.items()
        if name == config.loss.name
    }
    return losses.over_tokens(losses.create(config.loss.name, **options))


def create_gradient(config: Config) -> Callable[[Point], Gradient]:
    """What a step follows: that of config.sam.kind, with its options."""
    if config.sam.kind == "erm":
        return steps.plain_gradient
    variant = VARIANTS[config.sam.kind]
    return functools.partial(variant.gradient, **variant_options(config))


def create_variant_state(config: Config, params: Any) -> Any:
    """The state of the SAM variant before its first step; None for none."""
    if config.sam.kind == "erm":
        return None
    init_state = VARIANTS[config.sam.kind].init_state
    if init_state is None:
        return None
    return jax.jit(functools.partial(init_state, **variant_options(config)))(params)


def create_mask(config: Config) -> steps.Mask | None:
    """The leaves that a step perturbs; None for all."""
    if config.sam.only_kernels:
        return kernels
    return norm_layers if config.sam.only_norm else None


def check_mask(
    config: Config, module: nn.Module, examples: Examples | Streamed
) -> None:
    """Raises ConfigError if config.sam.only_norm leaves nothing to perturb."""
    if config.sam.kind == "erm" or not config.sam.only_norm:
        return
    params = _parameter_shapes(module, examples)
    if not any(jax.tree.leaves(norm_layers(params))):
        raise ConfigError(
            f"Received sam.only_norm=True with model.name={config.model.name!r}, which "
            "has no normalisation layers to perturb; take a ResNet, or set "
            "sam.only_norm=False."
        )


def check_rules(
    layout: parallel.Layout, module: nn.Module, examples: Examples | Streamed
) -> None:
    """Raises ConfigError if config.parallel.rules do not fit the parameters."""
    if not isinstance(layout, sharded.Layout) or not layout.rule.given:
        return
    params = flat_state.by_name({"params": _parameter_shapes(module, examples)})
    try:
        layout.rule.check({name: leaf.shape for name, leaf in params.items()})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _parameter_shapes(module: nn.Module, examples: Examples | Streamed) -> Any:
    init = functools.partial(
        models.start,
        module,
        image_shape=examples.image_shape,
        input_dtype=examples.input_dtype,
    )
    return jax.eval_shape(init, jax.random.key(0))["params"]


def create_paired(config: Config) -> steps.PairedLoss | None:
    """The loss of pairs that attack.kind and pairing.weight ask for, or None."""
    beta = config.attack.beta
    if config.attack.kind == "trades":
        return lambda loss, _: robust.trades_loss(loss, beta)
    if config.pairing.weight == 0:
        return None
    return lambda loss, given: robust.pairing_loss(loss, given.pairing)


def make_augment(config: Config) -> Augment:
    """(keys [b], images [b, ...]) -> images, by config.data.augment."""
    settings = config.data.augment
    if not settings.crop_padding and not settings.mirror:
        return lambda keys, images: jnp.asarray(images)
    return functools.partial(
        data.augment, crop_padding=settings.crop_padding, mirror=settings.mirror
    )
