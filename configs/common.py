"""What every recipe starts from: all keys, and how a recipe picks its variants.

`sam_jax/training/config.py` says what each key means and which values it takes. The
values here are the paper's for deep networks (App. C), on CIFAR-10 without noise.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Every key, at the paper's settings for ERM."""
    return ConfigDict(
        {
            "seed": 0,
            "epochs": 1000,
            "batch_size": 128,
            "devices": 0,
            "init_from": "",
            # In the objective, and so part of the ascent, as the paper's authors do it;
            # optimizer.weight_decay is the decoupled decay, which is not.
            "l2": 5e-4,
            "data": {
                "name": "cifar10",
                "classes": (),
                "noise": {
                    "kind": "uniform",
                    "fraction": 0.0,
                    "exclude_true": False,
                    "mapping": (),
                },
                "validation_fraction": 0.1,
                "augment": {"crop_padding": 4, "mirror": True},
            },
            "model": {
                "name": "preact_resnet18",
                "width": 64,
                "norm": "batch",
                "groups": 0,
                "widths": (16, 32),
                "hidden": 64,
                "activation": "relu",
                "dtype": "float32",
            },
            "loss": {"name": "cross_entropy", "q": 0.7, "label_smoothing": 0.0},
            "optimizer": {
                "name": "sgd",
                "momentum": 0.9,
                "nesterov": False,
                "beta1": 0.9,
                "beta2": 0.999,
                "epsilon": 1e-8,
                "weight_decay": 0.0,
                "gradient_clip": 0.0,
            },
            "schedule": {
                "name": "piecewise_constant",
                "peak": 0.1,
                "warmup_epochs": 0.0,
            },
            "sam": {
                "kind": "erm",
                "rho": 0.1,
                "rho_schedule": "constant",
                "m": 0,
                "chunk": 0,
                "perturbation": "normalized",
                "eta": 0.01,
                "alpha": 0.4,
                "ascent_steps": 1,
                "ascent_step_size": 0.0,
                "only_norm": False,
                "start_epoch": 0,
                "stop_epoch": 0,
                "every": 1,
            },
            # Training on clean images, and no robust error, by default.
            "attack": {
                "kind": "none",
                "norm": "linf",
                "eps": 0.0,
                "steps": 5,
                "step_size": 0.0,
                "start": "random",
                "eval_steps": 0,
                "eval_step_size": 0.0,
                "beta": 6.0,
            },
            "pairing": {"weight": 0.0, "start": 0.5},
            "ema": {"decay": 0.0},
            "eval": {"every_epochs": 1, "batch_size": 1000},
            "checkpoint": {"every_epochs": 10, "keep": 2, "best": True},
        }
    )


Variant = Callable[[ConfigDict], None]


def choose(
    config: ConfigDict, variants: Mapping[str, Variant], names: str
) -> ConfigDict:
    """Applies the variants of a recipe named in `--config=configs/RECIPE.py:NAMES`.

    Args:
      config: the recipe; changed in place.
      variants: name -> function that changes it.
      names: one or several, joined by commas, applied in this order; "" for none.

    Returns: the config.
    Raises: ValueError for an unknown name, listing the known ones.
    """
    for name in names.split(",") if names else ():
        if name not in variants:
            raise ValueError(
                f"Unknown variant {name!r}; this recipe has {', '.join(variants)}."
            )
        variants[name](config)
    return config


def ascent(kind: str, **settings: Any) -> Variant:
    """The variant with this `sam.kind` and other keys of config.sam."""

    def change(config: ConfigDict) -> None:
        config.sam.update(kind=kind, **settings)

    return change


def smoke(config: ConfigDict) -> None:
    """The recipe in seconds: three epochs of a narrow ResNet-18 on embedded digits."""
    config.epochs = 3
    config.schedule.warmup_epochs = min(config.schedule.warmup_epochs, 1.0)
    config.data.name = "digits"
    config.data.classes = tuple("0123456789"[: len(config.data.classes)])
    config.model.name = "preact_resnet18"
    config.model.width = 4
    config.batch_size = min(config.batch_size, 128)
    config.sam.m = min(config.sam.m, 32)
    config.data.augment.crop_padding = min(config.data.augment.crop_padding, 1)
    config.sam.start_epoch = min(config.sam.start_epoch, 1)
    config.sam.stop_epoch = min(config.sam.stop_epoch, 2)
    config.eval.batch_size = 256
    config.checkpoint.every_epochs = 1


def embedded(config: ConfigDict) -> None:
    """The recipe in a minute on two cores: digits, a narrow network, 50 epochs.

    A tenth of the epochs warms up the learning rate, without which SAM does not start
    on so few steps; nothing is augmented, since a digit mirrored is none.
    """
    for key in ("start_epoch", "stop_epoch"):
        config.sam[key] = config.sam[key] * 50 // config.epochs
    config.epochs = 50
    config.schedule.warmup_epochs = 5.0
    config.data.name = "digits"
    config.data.classes = ("3", "8") if config.data.classes else ()
    config.data.augment.update(crop_padding=0, mirror=False)
    config.model.width = 8
    config.sam.m = 16 if config.sam.m else 0
    # One group after another: groups at once are grouped convolutions, slow on CPU.
    config.sam.chunk = 1 if config.sam.m else 0
    config.batch_size = 64
    config.eval.batch_size = 300
    config.checkpoint.update(every_epochs=50, best=False)
