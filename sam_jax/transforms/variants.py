"""The one table of SAM variants: what optax, the training step and configs share."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from sam_jax.core.gradient import Gradient
from sam_jax.transforms import (
    adaptive,
    directions,
    eigen,
    examples,
    lookbehind,
    metrics,
    mixes,
    previous,
    trajectory,
)
from sam_jax.transforms.gsam import gsam, gsam_gradient
from sam_jax.transforms.max_sum import max_sum, max_sum_gradient
from sam_jax.transforms.random_perturbation import (
    random_perturbation,
    random_perturbation_gradient,
)
from sam_jax.transforms.sam import sam, sam_gradient
from sam_jax.transforms.scaled import (
    asam,
    asam_gradient,
    layerwise_sam,
    layerwise_sam_gradient,
)
from sam_jax.transforms.stable_sam import stable_sam, stable_sam_gradient
from sam_jax.transforms.sum_max import sum_max, sum_max_gradient
from sam_jax.transforms.swaps import (
    sam_derivative,
    sam_derivative_gradient,
    sam_direction,
    sam_direction_gradient,
)


class Variant(NamedTuple):
    """A SAM variant.

    gradient: (point, **options) -> Gradient, pure: what a step descends.
    transformation: its optax factory, (rho, **options) -> transformation.
    ascends_on_own_batch: whether it needs `Point.ascent_batch`.
    init_state: (params, **options) -> its state before the first step; None for none.
    gradients: what a step costs, in gradients of the whole batch.
    keeps: what its state is, in words; "" for nothing.
    draws: whether it draws random numbers, from `Point.key`.
    """

    gradient: Callable[..., Gradient]
    transformation: Callable[..., optax.GradientTransformationExtraArgs]
    ascends_on_own_batch: bool = False
    init_state: Callable[..., Any] | None = None
    gradients: float = 2
    keeps: str = ""
    draws: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        parameters = list(inspect.signature(self.gradient).parameters.values())
        return {p.name: p.default for p in parameters[1:]}


# Public name -> variant. A new one is a module, a row here, and a row in the README.
VARIANTS: dict[str, Variant] = {
    "sam": Variant(sam_gradient, sam, init_state=directions.init_direction),
    "max_sum": Variant(max_sum_gradient, max_sum, ascends_on_own_batch=True),
    "sum_max": Variant(sum_max_gradient, sum_max),
    "sam_direction": Variant(sam_direction_gradient, sam_direction),
    "sam_derivative": Variant(sam_derivative_gradient, sam_derivative),
    "asam": Variant(asam_gradient, asam, init_state=directions.init_direction),
    "layerwise_sam": Variant(
        layerwise_sam_gradient, layerwise_sam, init_state=directions.init_direction
    ),
    "random_perturbation": Variant(
        random_perturbation_gradient, random_perturbation, gradients=1, draws=True
    ),
    "gsam": Variant(gsam_gradient, gsam, init_state=directions.init_direction),
    "stable_sam": Variant(
        stable_sam_gradient, stable_sam, init_state=directions.init_direction
    ),
    "friendly_sam": Variant(
        directions.friendly_sam_gradient,
        directions.friendly_sam,
        init_state=directions.init_average,
        keeps="average of g",
    ),
    "vasso": Variant(
        directions.vasso_gradient,
        directions.vasso,
        init_state=directions.init_average,
        keeps="average of g",
    ),
    "async_sam": Variant(
        previous.async_sam_gradient,
        previous.async_sam,
        init_state=previous.init_last,
        keeps="last g",
    ),
    "dp_sat": Variant(
        previous.dp_sat_gradient,
        previous.dp_sat,
        init_state=previous.init_zeros,
        gradients=1,
        keeps="average of descended gradients",
    ),
    "msam": Variant(
        previous.msam_gradient,
        previous.msam,
        init_state=previous.init_zeros,
        gradients=1,
        keeps="momentum",
    ),
    "wsam": Variant(
        mixes.wsam_gradient, mixes.wsam, init_state=directions.init_direction
    ),
    "cr_sam": Variant(mixes.cr_sam_gradient, mixes.cr_sam, gradients=3),
    "fisher_sam": Variant(metrics.fisher_sam_gradient, metrics.fisher_sam),
    "zsharp": Variant(metrics.zsharp_gradient, metrics.zsharp),
    "gcsam": Variant(metrics.gcsam_gradient, metrics.gcsam),
    "le_sam": Variant(metrics.le_sam_gradient, metrics.le_sam),
    "light_sam": Variant(
        metrics.light_sam_gradient,
        metrics.light_sam,
        init_state=metrics.init_light,
        keeps="sum of |g|^2",
    ),
    "sparse_sam": Variant(
        metrics.sparse_sam_gradient,
        metrics.sparse_sam,
        init_state=metrics.init_squares,
        keeps="average of g^2",
    ),
    "esam": Variant(examples.esam_gradient, examples.esam, draws=True),
    "imb_sam": Variant(examples.imb_sam_gradient, examples.imb_sam, gradients=3),
    "focal_sam": Variant(examples.focal_sam_gradient, examples.focal_sam, gradients=3),
    "ae_sam": Variant(
        adaptive.ae_sam_gradient,
        adaptive.ae_sam,
        init_state=adaptive.init_moments,
        keeps="mean and variance of |g|^2",
    ),
    "lookbehind_sam": Variant(
        lookbehind.lookbehind_sam_gradient, lookbehind.lookbehind_sam, gradients=3
    ),
    "eigen_sam": Variant(
        eigen.eigen_sam_gradient,
        eigen.eigen_sam,
        init_state=eigen.init_eigenvector,
        keeps="eigenvector",
    ),
    "mesa": Variant(
        trajectory.mesa_gradient,
        trajectory.mesa,
        init_state=trajectory.init_weights,
        gradients=1,
        keeps="average of w",
    ),
    "saf": Variant(trajectory.saf_gradient, trajectory.saf, gradients=1),
}
