"""flax nnx models, whose calls change them: statistics, counters of random keys."""

from collections.abc import Callable
from typing import Any

import jax

from sam_jax import extras

Tree = Any


def nnx_grad_fn(
    model: Any,
    loss: Callable[[Any, Any], Any],
    *,
    wrt: Any = None,
    has_aux: bool = False,
) -> Callable[[Tree, Tree], Tree]:
    """The grad_fn that an nnx model with BatchNorm or dropout hands to a SAM transform.

    A call of such a model updates running statistics and counts the random keys drawn.
    This keeps the model as it is now. Each of its gradients starts from there, so that
    all passes of a step draw the same masks, and what they update is dropped: running
    statistics are those of the pass at w alone.

        @nnx.jit
        def train_step(model, optimizer, batch):
            grad_fn = sam_jax.nnx_grad_fn(model, loss)  # before the pass at w
            value, grads = nnx.value_and_grad(loss)(model, batch)
            optimizer.update(model, grads, grad_fn=grad_fn, batch=batch)
            return value

    With groups (`sum_max`, an m) a key of the model's would be that of all groups, and
    is refused: reseed in the loss, `nnx.reseed(model, dropout=batch["key"][0])`, with a
    key for every example in the batch.

    Args:
      model: an nnx module in train mode.
      loss: (model, batch) -> mean loss f[]; with `has_aux` (loss, aux).
      wrt: the filter of the trained variables, as in `nnx.Optimizer`; None for
        `nnx.Param`.

    Returns: grad_fn(params, batch) -> a tree like params, of arrays, as
      `nnx.Optimizer.update` passes them.

    Raises: ValueError, when the transform calls it, if the model has not been called
      since: it was taken behind the pass at w, and would draw other masks.
    """
    with extras.needed("sam_jax.nnx_grad_fn", "train"):
        from flax import nnx

    trained = nnx.Param if wrt is None else wrt

    def rest_of(module: Any) -> Any:
        """Everything that is not trained, as arrays that no later call changes."""
        return nnx.as_pure(nnx.split(module, trained, ...)[2])

    graph = nnx.split(model, trained, ...)[0]
    kept = rest_of(model)

    def value(params: Tree, batch: Tree) -> jax.Array:
        module = nnx.merge(graph, params, kept)
        out = loss(module, batch)
        if not _same(kept, rest_of(module)) and _same(kept, rest_of(model)):
            raise ValueError(
                "nnx_grad_fn received a model that has not been called since; it keeps "
                "the counters of random keys as they were before the pass at w, so "
                "that both passes draw the same. Call it first: grad_fn = sam_jax."
                "nnx_grad_fn(model, loss), then nnx.value_and_grad(loss)(model, batch)."
            )
        return out[0] if has_aux else out

    return jax.grad(value)


def _same(a: Tree, b: Tree) -> bool:
    """Whether two trees hold the very same arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x is y for x, y in pairs)
