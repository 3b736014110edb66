"""The training objective, with outputs and per-example losses kept apart."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import trees


@dataclasses.dataclass(frozen=True)
class Objective:
    """L(w) = (1/B) sum_i loss_i(predict_i(w)) + penalty(w).

    Keeping `predict` and `loss` apart is what lets one pull-back serve the swaps of
    Table 1 and what makes per-example perturbations cheap.

    Args:
      predict: (params, batch) -> outputs [B, ...]; with `has_aux` (outputs, aux).
      loss: (outputs, batch) -> per-example losses [B]. Example i's loss must read
        example i's outputs alone.
      penalty: params -> scalar, such as the l2 term; it joins the mean loss of every
        group, and so takes part in the ascent. None for no penalty.
      has_aux: whether predict also returns something to keep from the clean pass, such
        as new BatchNorm statistics.

    `batch` is any pytree whose leaves hold the examples on their leading axis.
    """

    predict: Callable[[Any, Any], Any]
    loss: Callable[[Any, Any], jax.Array]
    penalty: Callable[[Any], jax.Array] | None = None
    has_aux: bool = False

    def forward(self, params: Any, batch: Any) -> tuple[Any, Any]:
        """(outputs, aux) at these parameters; aux is None without `has_aux`."""
        out = self.predict(params, batch)
        return out if self.has_aux else (out, None)

    def losses(self, outputs: Any, batch: Any) -> jax.Array:
        """Per-example losses [B], checked to be one number an example."""
        losses = jnp.asarray(self.loss(outputs, batch))
        size = batch_size(batch)
        if losses.shape != (size,):
            raise ValueError(
                f"objective.loss returned shape {losses.shape} for a batch of {size} "
                f"examples; it must return per-example losses of shape ({size},). "
                "Leave out the mean or sum over the batch: sam_jax takes the mean."
            )
        return losses

    def value(self, params: Any, batch: Any) -> jax.Array:
        """The mean loss plus the penalty, f[]."""
        outputs, _ = self.forward(params, batch)
        mean = jnp.mean(self.losses(outputs, batch))
        return mean if self.penalty is None else mean + self.penalty(params)

    def penalty_gradient(self, params: Any) -> Any:
        """Gradient of the penalty, a tree like params; None without a penalty."""
        penalty = self.penalty
        if penalty is None:
            return None
        value, pull, _ = trees.vjp(lambda w: (penalty(w), None), params)
        return pull(jnp.ones_like(value))


def l2_penalty(l2: trees.Scalar) -> Callable[[Any], jax.Array]:
    """w -> (l2 / 2) |w|^2 over all parameters, biases and norm layers too."""

    def penalty(params: Any) -> jax.Array:
        square = trees.dot(params, params)
        return 0.5 * jnp.asarray(l2, square.dtype) * square

    return penalty


def batch_size(batch: Any) -> int:
    """Number of examples: the leading axis that all leaves of a batch share."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(batch)]
    sizes = {shape[0] if shape else -1 for shape in shapes}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(
            f"Received a batch with leaves of shapes {shapes}; every leaf must hold "
            "the same number of examples on its leading axis. Put constants into the "
            "objective's closure instead of the batch."
        )
    size = sizes.pop()
    if size == 0:
        raise ValueError(
            f"Received a batch of no examples, with leaves of shapes {shapes}; give "
            "one example at least."
        )
    return size
