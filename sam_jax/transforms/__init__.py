"""SAM variants as optax gradient transformations with extra arguments."""

from sam_jax.transforms.common import SamState
from sam_jax.transforms.control import active_between, norm_layers, only, periodic
from sam_jax.transforms.gsam import gsam
from sam_jax.transforms.sam import max_sum, sam
from sam_jax.transforms.scaled import asam, layerwise_sam, random_perturbation
from sam_jax.transforms.sum_max import sum_max
from sam_jax.transforms.swaps import sam_derivative, sam_direction

__all__ = [
    "SamState",
    "active_between",
    "asam",
    "gsam",
    "layerwise_sam",
    "max_sum",
    "norm_layers",
    "only",
    "periodic",
    "random_perturbation",
    "sam",
    "sam_derivative",
    "sam_direction",
    "sum_max",
]
