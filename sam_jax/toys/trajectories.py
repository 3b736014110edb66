"""Unnormalised SAM on test functions, watched where the bounds of App. B look."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import sharpness_aware_gradient
from sam_jax.toys import descent
from sam_jax.toys.functions import Function, noisy

Vector = Float[ArrayLike, " d"]
Times = Int[ArrayLike, " times"]


class Trajectory(NamedTuple):
    """w: iterates w_t at the times t watched. loss: L(w_t). gradient2: |grad L|^2."""

    w: Float[Array, "times d"]
    loss: Float[Array, " times"]
    gradient2: Float[Array, " times"]


def deterministic(
    function: Function,
    w: Vector,
    *,
    gamma: descent.Number,
    rho: descent.Number,
    times: Times,
) -> Trajectory:
    """w_{t+1} = w_t - gamma_t grad L(w_t + rho_t grad L(w_t)), Eq. (18).

    Args:
      gamma, rho: step sizes, numbers or schedules t -> value.
      times: iterations to watch, increasing; np.arange(T + 1) for all up to T.
    """
    shifts = jnp.zeros((1, jnp.size(w)))
    gradient = descent.full_batch(
        noisy(function), shifts, rho=rho, rule=ascent.unnormalized
    )
    return _watch(function, gradient, w, gamma, times)


def stochastic(
    function: Function,
    w: Vector,
    shifts: Float[ArrayLike, "n d"],
    key: Array,
    *,
    gamma: descent.Number,
    rho: descent.Number,
    times: Times,
    size: int = 1,
    own_ascent_batch: bool = False,
) -> Trajectory:
    """The same with minibatches of l_c(w) = L(w) + <c, w>, Eq. (5) and (19).

    Args:
      shifts: the data set of c, of mean zero: see `functions.noisy`.
      size: b, drawn with replacement, so that the variance is mean |c|^2 / b.
      own_ascent_batch: MaxSum, Eq. (19), instead of Eq. (5).
    """
    gradient = descent.minibatch(
        noisy(function),
        shifts,
        key,
        size=size,
        rho=rho,
        own_ascent_batch=own_ascent_batch,
        rule=ascent.unnormalized,
    )
    return _watch(function, gradient, w, gamma, times)


class Step(NamedTuple):
    """loss: L(w). gradient2: |grad L(w)|^2. aligned: E <g, grad L(w)>, with g the
    gradient at the ascent point. after: E L(w - gamma g).
    """

    loss: Float[Array, ""]
    gradient2: Float[Array, ""]
    aligned: Float[Array, ""]
    after: Float[Array, ""]


def expected_step(
    function: Function,
    w: Vector,
    shifts: Float[ArrayLike, "n d"],
    *,
    gamma: trees.Scalar,
    rho: trees.Scalar,
    own_ascent_batch: bool = False,
) -> Step:
    """One step of `stochastic` with batches of one, its expectation exactly.

    Args: as those of `stochastic`; gamma and rho are numbers. With `own_ascent_batch`
      the expectation is over all pairs of a descent and an ascent example.
    """
    w, shifts = jnp.asarray(w), jnp.asarray(shifts)
    objective, count = noisy(function), len(shifts)
    descents, ascents = jnp.arange(count), jnp.arange(count)
    if own_ascent_batch:
        descents, ascents = jnp.repeat(descents, count), jnp.tile(ascents, count)

    def one(i, j):
        return sharpness_aware_gradient(
            objective,
            w,
            shifts[i][None],
            rho=rho,
            rule=ascent.unnormalized,
            ascent_batch=shifts[j][None] if own_ascent_batch else None,
        ).gradient

    gradients = jax.vmap(one)(descents, ascents)
    loss, slope = jax.value_and_grad(function.value)(w)
    after = jax.vmap(lambda g: function.value(w - gamma * g))(gradients)
    aligned = jnp.mean(gradients @ slope)
    return Step(loss, slope @ slope, aligned, jnp.mean(after))


def _watch(
    function: Function,
    gradient: descent.Gradient,
    w: Vector,
    gamma: descent.Number,
    times: Times,
) -> Trajectory:
    def observe(w):
        loss, slope = jax.value_and_grad(function.value)(w)
        return Trajectory(w, loss, jnp.vdot(slope, slope))

    return descent.descend(gradient, w, step_size=gamma, times=times, observe=observe)
