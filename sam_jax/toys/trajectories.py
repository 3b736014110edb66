"""Unnormalised SAM on test functions, watched where the bounds of App. B look."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from sam_jax.core import ascent
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
