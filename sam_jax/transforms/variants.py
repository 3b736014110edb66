"""The one table of SAM variants: what optax, the training step and configs share."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from sam_jax.core.gradient import Gradient
from sam_jax.transforms.directions import (
    friendly_sam,
    friendly_sam_gradient,
    init_average,
    init_direction,
    vasso,
    vasso_gradient,
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
    """

    gradient: Callable[..., Gradient]
    transformation: Callable[..., optax.GradientTransformationExtraArgs]
    ascends_on_own_batch: bool = False
    init_state: Callable[..., Any] | None = None
    gradients: float = 2
    keeps: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        parameters = list(inspect.signature(self.gradient).parameters.values())
        return {p.name: p.default for p in parameters[1:]}


AVERAGE = "the gradients' average"

# Public name -> variant. A new one is a module, a row here, and a row in the README.
VARIANTS: dict[str, Variant] = {
    "sam": Variant(sam_gradient, sam, init_state=init_direction),
    "max_sum": Variant(max_sum_gradient, max_sum, ascends_on_own_batch=True),
    "sum_max": Variant(sum_max_gradient, sum_max),
    "sam_direction": Variant(sam_direction_gradient, sam_direction),
    "sam_derivative": Variant(sam_derivative_gradient, sam_derivative),
    "asam": Variant(asam_gradient, asam),
    "layerwise_sam": Variant(layerwise_sam_gradient, layerwise_sam),
    "random_perturbation": Variant(random_perturbation_gradient, random_perturbation),
    "gsam": Variant(gsam_gradient, gsam),
    "stable_sam": Variant(stable_sam_gradient, stable_sam),
    "friendly_sam": Variant(
        friendly_sam_gradient,
        friendly_sam,
        init_state=init_average,
        keeps=AVERAGE,
    ),
    "vasso": Variant(vasso_gradient, vasso, init_state=init_average, keeps=AVERAGE),
}
