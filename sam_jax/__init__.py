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
from sam_jax.transforms import (
    SamState,
    active_between,
    kernels,
    norm_layers,
    only,
    periodic,
)
from sam_jax.transforms.adaptive import ae_sam
from sam_jax.transforms.directions import friendly_sam, vasso
from sam_jax.transforms.eigen import eigen_sam
from sam_jax.transforms.examples import esam, focal_sam, imb_sam
from sam_jax.transforms.lookbehind import lookbehind_sam
from sam_jax.transforms.metrics import (
    fisher_sam,
    gcsam,
    le_sam,
    light_sam,
    sparse_sam,
    zsharp,
)
from sam_jax.transforms.mixes import cr_sam, wsam
from sam_jax.transforms.nnx_models import nnx_grad_fn
from sam_jax.transforms.previous import async_sam, dp_sat, msam
from sam_jax.transforms.radius import carry_rho, choose_rho
from sam_jax.transforms.trajectory import mesa, saf
from sam_jax.transforms.value_and_grad import value_and_grad
from sam_jax.transforms.variants import (
    asam,
    gsam,
    layerwise_sam,
    max_sum,
    random_perturbation,
    sam,
    sam_derivative,
    sam_direction,
    stable_sam,
    sum_max,
)

__version__ = "0.1.0"

__all__ = [
    "Gradient",
    "NoiseScale",
    "Objective",
    "SamState",
    "active_between",
    "ae_sam",
    "asam",
    "async_sam",
    "carry_rho",
    "choose_rho",
    "clipped_gradient",
    "cr_sam",
    "dp_sat",
    "eigen_sam",
    "esam",
    "fisher_sam",
    "focal_sam",
    "friendly_sam",
    "gcsam",
    "gradient_noise_scale",
    "gsam",
    "imb_sam",
    "implicit_gradient",
    "implicit_report",
    "kernels",
    "layerwise_sam",
    "le_sam",
    "light_sam",
    "lookbehind_sam",
    "loss_gradient",
    "max_sum",
    "mesa",
    "msam",
    "nnx_grad_fn",
    "norm_layers",
    "only",
    "per_example_norms",
    "periodic",
    "random_perturbation",
    "saf",
    "sam",
    "sam_derivative",
    "sam_direction",
    "sharpness_aware_gradient",
    "sparse_sam",
    "stable_sam",
    "sum_max",
    "value_and_grad",
    "vasso",
    "wsam",
    "zsharp",
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
