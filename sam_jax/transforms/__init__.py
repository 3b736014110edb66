"""SAM variants as optax gradient transformations with extra arguments.

`variants.VARIANTS` is the table of all of them, by public name; `point.Point` is what
their gradients take, `factory.transformation` makes optax transformations of those, and
`control` says where and when one acts.
"""

from sam_jax.transforms.control import (
    active_between,
    kernels,
    norm_layers,
    only,
    periodic,
)
from sam_jax.transforms.factory import SamState
from sam_jax.transforms.point import Point
from sam_jax.transforms.variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "Point",
    "SamState",
    "Variant",
    "active_between",
    "kernels",
    "norm_layers",
    "only",
    "periodic",
]
