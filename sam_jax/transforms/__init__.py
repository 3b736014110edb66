"""SAM variants as optax gradient transformations with extra arguments."""

from sam_jax.transforms.control import active_between, norm_layers, only, periodic
from sam_jax.transforms.factory import SamState
from sam_jax.transforms.gsam import gsam
from sam_jax.transforms.max_sum import max_sum
from sam_jax.transforms.point import Point
from sam_jax.transforms.random_perturbation import random_perturbation
from sam_jax.transforms.sam import sam
from sam_jax.transforms.scaled import asam, layerwise_sam
from sam_jax.transforms.sum_max import sum_max
from sam_jax.transforms.swaps import sam_derivative, sam_direction
from sam_jax.transforms.variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "Point",
    "SamState",
    "Variant",
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
