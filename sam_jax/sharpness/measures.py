"""What all measures share: loss and error of a point, and the metric of the ball."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax import checks, metrics
from sam_jax.core import groups, trees
from sam_jax.core.objective import Objective, batch_size

Tree = Any
Errors = Callable[[Any, Any], jax.Array]


class Values(NamedTuple):
    """loss: mean loss with the penalty. error: share of wrong predictions. f[] each."""

    loss: jax.Array
    error: jax.Array


def errors(outputs: jax.Array, batch: Any) -> jax.Array:
    """1 where the predicted class is not batch["labels"], i[B]."""
    return metrics.errors(outputs, batch["labels"])


@functools.partial(jax.jit, static_argnames=("objective", "errors"))
def evaluate(
    objective: Objective, params: Tree, batch: Tree, errors: Errors = errors
) -> Values:
    """Loss and error at these parameters."""
    outputs, _ = objective.forward(params, batch)
    mean = _mean_loss(objective, params, outputs, batch)
    return Values(mean, _mean(errors, outputs, batch))


@functools.partial(jax.jit, static_argnames=("objective", "errors"))
def evaluate_and_ascend(
    objective: Objective,
    errors: Errors,
    params: Tree,
    scale: Tree,
    u: Tree,
    batch: Tree,
) -> tuple[Values, Tree]:
    """Loss and error at w + T u, and the gradient of the loss with respect to u."""

    def loss(u):
        w = trees.add(params, jax.tree.map(jnp.multiply, scale, u))
        outputs, _ = objective.forward(w, batch)
        value = _mean_loss(objective, w, outputs, batch)
        return value, _mean(errors, outputs, batch)

    leaves, rebuild = trees.floating(u)
    (value, error), slope = jax.value_and_grad(
        lambda x: loss(rebuild(x)), has_aux=True
    )(leaves)
    return Values(value, error), rebuild(slope, fill=0)


def ball_metric(params: Tree, adaptive: bool) -> Tree:
    """T of the ball |T^-1 delta| <= rho: |w| element by element, or 1.

    With |w| a sharpness does not change when weights are rescaled without changing the
    network (Kwon et al. 2021; Andriushchenko et al. 2023): the element-wise invariant
    one. A weight of zero then stays zero.
    """
    one = jnp.abs if adaptive else jnp.ones_like
    return jax.tree.map(
        lambda w: one(trees.widen(w)) if trees.is_floating(w) else w, params
    )


def in_groups(batch: Tree, m: int | None) -> Iterator[Tree]:
    """Groups of m consecutive examples; the whole batch for None.

    Raises: ValueError unless m divides the batch.
    """
    size = batch_size(batch)
    m = size if m is None else checks.integer("m", m, 1)
    if size % m:
        raise ValueError(
            f"Received m={m} for {size} examples; groups must be equal: give a divisor "
            "of their number, or None for all of them, or leave some examples out."
        )
    pieces = groups.split(batch, size // m)
    for i in range(size // m):
        yield jax.tree.map(lambda x, i=i: x[i], pieces)


def check_radius(rho: float) -> float:
    """rho as a finite number >= 0."""
    return checks.number("rho", rho, 0)


def _mean_loss(
    objective: Objective, params: Tree, outputs: Any, batch: Tree
) -> jax.Array:
    mean = jnp.mean(objective.losses(outputs, batch))
    penalty = objective.penalty
    return mean if penalty is None else mean + penalty(params)


def _mean(errors: Errors, outputs: Any, batch: Tree) -> jax.Array:
    return jnp.mean(errors(outputs, batch).astype(jnp.float32))
