"""The attacked network as a function of images alone.

`predict(images) -> logits`, or `predict(images, key=key) -> logits` for a network that
is random by design. A compiled attack belongs to one function: give
`jax.tree_util.Partial(apply, params)` to attack other weights without compiling anew.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from sam_jax import metrics
from sam_jax.attacks.geometry import Images
from sam_jax.attacks.objectives import Labels, Logits, Objective, margin

Predict = Callable[..., Any]


def as_partial(predict: Predict) -> Partial:
    """A pytree whose leaves are what the function is given beside the images."""
    return predict if isinstance(predict, Partial) else Partial(predict)


def takes_key(predict: Predict) -> bool:
    """Whether a network is random by design: it has an argument `key`."""
    try:
        return "key" in inspect.signature(predict).parameters
    except (TypeError, ValueError):  # callables without a signature
        return False


def logits_of(predict: Predict, images: Images, key: Array) -> Logits:
    """predict's logits; a random network draws from `key`."""
    options = {"key": key} if takes_key(predict) else {}
    logits = jnp.asarray(predict(images, **options))
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def loss_gradient(
    predict: Predict, loss: Objective, images: Images, key: Array, *labels: Labels
) -> tuple[Float[Array, " batch"], Images, Logits]:
    """Losses [B], the gradient of their sum over the batch, and the logits."""

    def total(x):
        logits = logits_of(predict, x, key)
        values = loss(logits, *labels)
        return jnp.sum(values), (values, logits)

    gradient, (values, logits) = jax.grad(total, has_aux=True)(images)
    return values, gradient, logits


@jax.jit
def judge(
    predict: Partial, images: Images, labels: Labels, key: Array
) -> tuple[Bool[Array, " batch"], Float[Array, " batch"]]:
    """Whether each image is classified as its label, and its margin."""
    logits = logits_of(predict, images, key)
    return metrics.errors(logits, labels) == 0, margin(logits, labels)


def likely_targets(
    predict: Partial, images: Images, labels: Labels, key: Array, count: int
) -> tuple[Labels, ...]:
    """The `count` most likely classes other than the label, or all there are."""
    order = _ranking(predict, images, labels, key)
    return tuple(order.T[:count])


@jax.jit
def _ranking(
    predict: Partial, images: Images, labels: Labels, key: Array
) -> Int[Array, "batch others"]:
    logits = logits_of(predict, images, key)
    own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    order = jnp.argsort(-jnp.where(own, -jnp.inf, logits), axis=1, stable=True)
    return order[:, :-1]
