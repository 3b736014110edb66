"""Iterating the core's gradients: one compiled loop, whatever is watched.

A gradient here is a function (params, t) -> tree like params, t the iteration, so that
minibatches and decreasing radii need no second loop. Everything below works under
`jax.jit` and `jax.vmap`, over seeds, radii and step sizes alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, PyTree, Shaped

from sam_jax import checks
from sam_jax.core import gradient as core
from sam_jax.core.objective import Objective, batch_size

Index = Int[ArrayLike, ""]
Gradient = Callable[[PyTree, Index], PyTree]
Schedule = Callable[[Index], Array]
Number = Shaped[ArrayLike, ""] | Schedule


def descend(
    gradient: Gradient,
    params: PyTree,
    *,
    step_size: Number,
    times: Int[ArrayLike, " times"],
    observe: Callable[[PyTree], PyTree] = lambda params: params,
) -> PyTree:
    """w_{t+1} = w_t - gamma_t g(w_t, t), watched at chosen iterations.

    Args:
      gradient: (params, t) -> tree like params.
      params: w_0.
      step_size: gamma > 0, or a schedule t -> gamma_t.
      times: iterations to watch, increasing; 0 is the start.
      observe: params -> tree of what is wanted of them.

    Returns: observe(w_t), stacked over `times` on a new leading axis.

    Raises: ValueError in float32 mode.
    """
    checks.float64("The descent of a toy problem")

    def step(t, w):
        scale = _at(step_size, t)
        return jax.tree.map(lambda x, g: x - scale * g, w, gradient(w, t))

    def reach(state, time):
        w = jax.lax.fori_loop(state[0], time, step, state[1])
        return (time, w), observe(w)

    times = jnp.asarray(times)
    start = jnp.zeros((), times.dtype)
    _, seen = jax.lax.scan(reach, (start, jax.tree.map(jnp.asarray, params)), times)
    return seen


def full_batch(
    objective: Objective, batch: PyTree, *, rho: Number, **options: Any
) -> Gradient:
    """The sharpness-aware gradient on all examples; rho = 0 is that of the loss.

    Args:
      rho: radius, or a schedule t -> rho_t.
      options: of `core.gradient.sharpness_aware_gradient`: m, rule, ...
    """

    def gradient(params, t):
        return core.sharpness_aware_gradient(
            objective, params, batch, rho=_at(rho, t), **options
        ).gradient

    return gradient


def minibatch(
    objective: Objective,
    batch: PyTree,
    key: Array,
    *,
    size: int,
    rho: Number,
    own_ascent_batch: bool = False,
    **options: Any,
) -> Gradient:
    """The same on a fresh minibatch a step, drawn with replacement.

    Args:
      size: b, examples of a minibatch.
      own_ascent_batch: draw a second minibatch J_t for the ascent (Eq. 19), instead of
        using I_t for both (Eq. 5).
    """
    batch = jax.tree.map(jnp.asarray, batch)
    number = batch_size(batch)

    def draw(key):
        picked = jax.random.randint(key, (size,), 0, number)
        return jax.tree.map(lambda x: x[picked], batch)

    def gradient(params, t):
        descent_key, ascent_key = jax.random.split(jax.random.fold_in(key, t))
        return core.sharpness_aware_gradient(
            objective,
            params,
            draw(descent_key),
            rho=_at(rho, t),
            ascent_batch=draw(ascent_key) if own_ascent_batch else None,
            **options,
        ).gradient

    return gradient


def _at(value: Number, t: Index) -> Any:
    return value(t) if callable(value) else value
