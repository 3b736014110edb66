"""Data sets as arrays in memory, label noise, splits, batches and augmentation."""

from sam_jax.data.augment import augment
from sam_jax.data.batches import epoch_batches
from sam_jax.data.dataset import (
    Dataset,
    UnavailableDataError,
    normalize,
    resize,
    select_classes,
)
from sam_jax.data.embedded import two_gaussians
from sam_jax.data.noise import add_label_noise, draw_label_noise
from sam_jax.data.sources import NAMES, from_source, load
from sam_jax.data.splits import (
    balanced_subset,
    random_subset,
    split_documents,
    split_validation,
)

__all__ = [
    "NAMES",
    "Dataset",
    "UnavailableDataError",
    "add_label_noise",
    "augment",
    "balanced_subset",
    "draw_label_noise",
    "epoch_batches",
    "from_source",
    "load",
    "normalize",
    "random_subset",
    "resize",
    "select_classes",
    "split_documents",
    "split_validation",
    "two_gaussians",
]
