"""What recipes are made of: all keys, variants, small sizes; and where recipes are.

A recipe is a file with get_config(names) -> ConfigDict, which imports nothing but
sam_jax; `configs` has those of the paper. `keys.py` declares every key: its meaning,
its range and its default.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from sam_jax.training import configuration
from sam_jax.transforms import VARIANTS

# In an installed package, and in a clone.
PACKAGE = pathlib.Path(__file__).parents[1]
FOLDERS = (PACKAGE / "recipes", PACKAGE.parent / "configs")


def find(path: str) -> pathlib.Path:
    """The file of a recipe: this one, or that of its name which comes with sam_jax.

    Raises: ValueError, with the names there are, if there is none.
    """
    given = pathlib.Path(path)
    if given.is_file():
        return given
    if given.parent in (pathlib.Path("."), pathlib.Path("configs")):
        for folder in FOLDERS:
            if (folder / given.name).is_file() and given.suffix == ".py":
                return folder / given.name
    what = "a folder" if given.is_dir() else "no file"
    raise ValueError(
        f"There is {what} {given}; give --config=FILE.py:VARIANT, of your own or one "
        f"of {', '.join(names())}."
    )


def names() -> list[str]:
    """The recipes that come with sam_jax, as configs/NAME.py."""
    found = {file.name for folder in FOLDERS for file in folder.glob("[!_]*.py")}
    return [f"configs/{name}" for name in sorted(found)]


def base() -> ConfigDict:
    """Every key at its default: the paper's settings for ERM."""
    return configuration.base()


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
            hint = f" --config.sam.kind={name} sets any kind of SAM."
            raise ValueError(
                f"Unknown variant {name!r}; this recipe has {', '.join(variants)}."
                + hint * (name in VARIANTS)
            )
        variants[name](config)
    return config


def ascent(kind: str, **settings: Any) -> Variant:
    """The variant with this `sam.kind` and other keys of config.sam."""

    def change(config: ConfigDict) -> None:
        config.sam.update(kind=kind, **settings)

    return change


def smoke(config: ConfigDict) -> None:
    """The recipe in seconds: three epochs of a narrow ResNet-10 on digits."""
    config.epochs = 3
    config.schedule.warmup_epochs = min(config.schedule.warmup_epochs, 1.0)
    config.data.name = "digits"
    config.data.classes = tuple("0123456789"[: len(config.data.classes)])
    config.model.name = "preact_resnet10"
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


FASHION_CLASSES = ("Pullover", "Coat")  # the two that are hardest to tell apart


def fashion(config: ConfigDict) -> None:
    """The recipe in minutes a run on two cores, on enough real images to decide.

    Fashion-MNIST at 14 x 14 (means of blocks), the whole test set, a narrow network.
    Of two classes all 12,000 training images, a tenth of which validates, for 15
    epochs. Of ten classes 6,000 images, of which 1,000 validate, for 40 epochs: with
    60% label noise ERM then fits the noisy labels, as it does in the paper. Nothing is
    augmented; a fifteenth or twentieth of the epochs warms up.
    """
    two = bool(config.data.classes)
    epochs, warmup = (15, 1.0) if two else (40, 2.0)
    for key in ("start_epoch", "stop_epoch"):
        config.sam[key] = config.sam[key] * epochs // config.epochs
    config.epochs = epochs
    config.schedule.warmup_epochs = warmup
    config.data.name = "fashion_mnist"
    config.data.resize = 14
    config.data.train_examples = 12_000 if two else 6_000
    config.data.validation_fraction = 1 / 10 if two else 1 / 6
    config.data.classes = FASHION_CLASSES if two else ()
    config.data.augment.update(crop_padding=0, mirror=False)
    config.model.width = 8
    # One group after another: groups at once are grouped convolutions, slow on CPU.
    config.sam.chunk = 1 if config.sam.m else 0
    config.eval.batch_size = 1000
    config.checkpoint.update(every_epochs=epochs, best=False)
