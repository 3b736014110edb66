"""Sharpness-aware minimisation in JAX.

`sam_jax.sam` and its relatives are optax transformations; the subpackages (`data`,
`models`, `losses`, `training`, ...) are imported when first used.
"""

import importlib

from sam_jax.core.gradient import Gradient, loss_gradient, sharpness_aware_gradient
from sam_jax.core.implicit import (
    NoiseScale,
    clipped_gradient,
    gradient_noise_scale,
    implicit_gradient,
    implicit_report,
    per_example_norms,
)
from sam_jax.core.objective import Objective
from sam_jax.transforms import SamState, active_between, norm_layers, only, periodic
from sam_jax.transforms.nnx_models import nnx_grad_fn
from sam_jax.transforms.value_and_grad import value_and_grad
from sam_jax.transforms.variants import (
    asam,
    friendly_sam,
    gsam,
    layerwise_sam,
    max_sum,
    random_perturbation,
    sam,
    sam_derivative,
    sam_direction,
    stable_sam,
    sum_max,
    vasso,
)

__version__ = "0.1.0"

__all__ = [
    "Gradient",
    "NoiseScale",
    "Objective",
    "SamState",
    "active_between",
    "asam",
    "clipped_gradient",
    "friendly_sam",
    "gradient_noise_scale",
    "gsam",
    "implicit_gradient",
    "implicit_report",
    "layerwise_sam",
    "loss_gradient",
    "max_sum",
    "nnx_grad_fn",
    "norm_layers",
    "only",
    "per_example_norms",
    "periodic",
    "random_perturbation",
    "sam",
    "sam_derivative",
    "sam_direction",
    "sharpness_aware_gradient",
    "stable_sam",
    "sum_max",
    "value_and_grad",
    "vasso",
]

_SUBPACKAGES = {
    "analysis",
    "attacks",
    "data",
    "flows",
    "losses",
    "metrics",
    "models",
    "schedules",
    "sharpness",
    "theory",
    "toys",
    "training",
}


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES])
