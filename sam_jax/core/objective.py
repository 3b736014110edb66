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
        size = common_size(batch)
        if losses.ndim != 1 or (size is not None and losses.shape != (size,)):
            number, shape = ("some", "[B]") if size is None else (size, f"({size},)")
            raise ValueError(
                f"objective.loss returned shape {losses.shape} for a batch of {number} "
                f"examples; it must return per-example losses of shape {shape}. "
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


@dataclasses.dataclass(frozen=True)
class MeanLoss:
    """A loss as trainers hand it to `jax.value_and_grad`: one number for a batch.

    Args:
      function: (params, batch) -> mean loss of the batch, f[]; with `has_aux`
        (mean loss, aux).
      has_aux: whether it also returns something to keep from the clean pass.
    """

    function: Callable[[Any, Any], Any]
    has_aux: bool = False

    def forward(self, params: Any, batch: Any) -> tuple[jax.Array, Any]:
        """(mean loss, aux) at these parameters; aux is None without `has_aux`."""
        out = self.function(params, batch)
        if self.has_aux != (isinstance(out, tuple) and len(out) == 2):
            raise ValueError(
                f"The loss returned {_described(out)} with has_aux={self.has_aux}; it "
                "must return (loss, aux) with has_aux=True, and the loss alone without."
            )
        value, aux = out if self.has_aux else (out, None)
        if value is None or jnp.shape(value) or not trees.is_floating(value):
            raise ValueError(
                f"The loss returned {_described(value)}; it must be one real number, "
                "the mean over the batch. Give a loss of each example as sam_jax."
                "Objective(predict, loss)."
            )
        return jnp.asarray(value), aux


def _described(out: Any) -> str:
    """What a loss returned, in words."""
    if isinstance(out, tuple):
        return f"a tuple of {len(out)}"
    if not hasattr(out, "shape"):
        return repr(out)
    return f"an array of shape {out.shape} and dtype {out.dtype}"


def l2_penalty(l2: trees.Scalar) -> Callable[[Any], jax.Array]:
    """w -> (l2 / 2) |w|^2 over all parameters, biases and norm layers too."""

    def penalty(params: Any) -> jax.Array:
        square = trees.dot(params, params)
        return 0.5 * jnp.asarray(l2, square.dtype) * square

    return penalty


def common_size(batch: Any) -> int | None:
    """The leading axis that all leaves of a batch share; None if they share none.

    A batch without one, such as a graph or packed sequences, can be seen whole, but
    not in groups. Raises ValueError for a batch of no examples.
    """
    shapes = _shapes(batch)
    sizes = {shape[0] if shape else -1 for shape in shapes}
    if len(sizes) != 1 or -1 in sizes:
        return None
    size = sizes.pop()
    if size == 0:
        raise ValueError(
            f"Received a batch of no examples, with leaves of shapes {shapes}; give "
            "one example at least."
        )
    return size


def batch_size(batch: Any) -> int:
    """Number of examples: the leading axis that all leaves of a batch share."""
    size = common_size(batch)
    if size is None:
        raise ValueError(
            f"Received a batch with leaves of shapes {_shapes(batch)}; to form groups, "
            "every leaf must hold the same number of examples on its leading axis. "
            "Constants belong into the closure of the loss instead of the batch, and "
            "of a random key one for each example: jax.random.split(key, B)."
        )
    return size


def _shapes(batch: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(batch)]
