"""How sharp a minimum is: worst case, average, spectrum of the Hessian, surfaces.

Everything takes an `Objective`, parameters and a batch; the objective's outputs should
be those of evaluation (BatchNorm with running statistics), so that a loss is a function
of the parameters alone. Loops over steps and groups are Python loops around compiled
functions (why: see `sam_jax.ops.loops`).
"""

from sam_jax.sharpness.alignment import alignment
from sam_jax.sharpness.average import average_case
from sam_jax.sharpness.derivatives import weights
from sam_jax.sharpness.hessian import (
    hessian_vector_product,
    spectral_density,
    top_eigenvalues,
    trace,
)
from sam_jax.sharpness.measures import evaluate
from sam_jax.sharpness.surfaces import (
    filter_normalized,
    interpolate,
    relative_distance,
    surface,
)
from sam_jax.sharpness.worst_case import Sharpness, worst_case

__all__ = [
    "Sharpness",
    "alignment",
    "average_case",
    "evaluate",
    "filter_normalized",
    "hessian_vector_product",
    "interpolate",
    "relative_distance",
    "spectral_density",
    "surface",
    "top_eigenvalues",
    "trace",
    "weights",
    "worst_case",
]
