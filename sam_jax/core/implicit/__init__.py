"""Sharpness-aware gradients of single examples and small groups without copies of w."""

from sam_jax.core.implicit.gradients import (
    gradient,
    implicit_gradient,
    per_example_norms,
    perturbed_outputs,
)
from sam_jax.core.implicit.per_example import (
    NoiseScale,
    clipped_gradient,
    gradient_noise_scale,
)
from sam_jax.core.implicit.report import Report, implicit_report

__all__ = [
    "NoiseScale",
    "Report",
    "clipped_gradient",
    "gradient",
    "gradient_noise_scale",
    "implicit_gradient",
    "implicit_report",
    "per_example_norms",
    "perturbed_outputs",
]
