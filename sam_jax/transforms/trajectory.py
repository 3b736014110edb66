"""Penalties on how fast the outputs move along the run, instead of an ascent.

rho is the weight of the penalty here, and there is no perturbation.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.objective import Objective
from sam_jax.transforms.directions import Average, start_average, update_average
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


def mesa_gradient(
    point: Point, *, temperature: trees.Scalar = 5.0, decay: trees.Scalar = 0.9995
) -> Gradient:
    """The gradient of L + rho T^2 mean KL(p_v | p_w), v the averaged weights (MESA).

    Du et al. 2022 (NeurIPS, arXiv:2205.14083), Alg. 1: p = softmax(outputs / T) with
    the weights v and w; v_t = decay v_{t-1} + (1 - decay) w_t from the first step on.
    The factor T^2, by which the pull hardly depends on T, is that of the authors' code.
    One gradient and a forward pass a step. Start it after some epochs, as the authors
    do (`active_between`). Needs an `objective` with logits [B, ..., classes].

    Args:
      rho: weight of the divergence, >= 0, or a schedule; .8 in the authors' run.
      axis_name: as in `sam`.
      temperature: T, > 0. decay: of the average, in [0, 1).
    """
    objective = point.require_objective("mesa")
    average = update_average(point.state, point.params, decay)
    past = point._replace(params=average.mean, gradient=None)
    old, _ = objective.forward(past.params, point.batch)
    result = _drawn_to(point, objective, jax.lax.stop_gradient(old), temperature)
    return result._replace(state=average)


def saf_gradient(point: Point, *, temperature: trees.Scalar = 5.0) -> Gradient:
    """The gradient of L + rho T^2 mean KL(p_old | p_w), p_old of epochs ago (SAF).

    Du et al. 2022 (NeurIPS, arXiv:2205.14083), Alg. 1: p = softmax(outputs / T), with
    T^2 as in `mesa`; the old outputs are those that the run had for the same examples,
    two or three epochs ago in the authors' code, which the caller stores and passes as
    `past_outputs`. One gradient a step. Needs an `objective` with logits [B, ...,
    classes].

    Args:
      rho: as in `mesa`; .3 in the authors' code. axis_name, temperature: as in `mesa`.

    Raises: ValueError if `update` has no past_outputs=, or not those of the batch.
    """
    objective = point.require_objective("saf")
    if point.past_outputs is None:
        raise ValueError(
            "saf received no stored outputs; pass update(..., past_outputs=): the "
            "logits [B, classes] that the run had for this batch some epochs ago. "
            "value_and_grad has no place for them, and training runs store none: use "
            "mesa there."
        )
    return _drawn_to(point, objective, point.past_outputs, temperature)


def init_weights(params: Tree, **_: Any) -> Average:
    """The state of `mesa`."""
    return start_average(params)


def _drawn_to(
    point: Point, objective: Objective, old: jax.Array, temperature: trees.Scalar
) -> Gradient:
    """The gradient with rho times the divergence from old outputs added to the loss."""

    def loss(outputs: jax.Array, batch: Tree) -> jax.Array:
        if jnp.shape(old) != outputs.shape:
            raise ValueError(
                f"saf received past_outputs of the shape {jnp.shape(old)} for outputs "
                f"of the shape {outputs.shape}; give those of the same examples."
            )
        before = jax.nn.log_softmax(old / temperature)
        now = jax.nn.log_softmax(outputs / temperature)
        divergence = jnp.sum(jnp.exp(before) * (before - now), -1)
        divergence = jnp.mean(divergence.reshape(len(divergence), -1), 1)
        losses = objective.loss(outputs, batch)
        weight = jnp.asarray(point.rho * temperature**2, losses.dtype)
        return losses + weight * divergence

    drawn = point._replace(
        oracle=dataclasses.replace(objective, loss=loss), gradient=None
    )
    result = drawn.here()
    return result._replace(losses=objective.losses(result.outputs, point.batch))


mesa = make_factory("mesa", mesa_gradient, init_weights)
saf = make_factory("saf", saf_gradient)
