"""Average-case sharpness: how much loss and error rise under random perturbations."""

import functools
from typing import Any

import jax
import numpy as np

from sam_jax import checks
from sam_jax.core import trees
from sam_jax.core.objective import Objective
from sam_jax.sharpness import measures
from sam_jax.sharpness.worst_case import Sharpness

Tree = Any


def average_case(
    objective: Objective,
    params: Tree,
    batch: Tree,
    key: jax.Array,
    *,
    rho: float,
    samples: int = 20,
    on_sphere: bool = False,
    adaptive: bool = False,
    errors: measures.Errors = measures.errors,
) -> Sharpness:
    """The mean of L(w + T u) - L(w) over u ~ N(0, rho^2 I), or over |u| = rho.

    For small rho it tends to rho^2 / 2 times the trace of the Hessian; on the sphere,
    to that over the number of parameters. u and -u are drawn in pairs, so that the
    gradient drops out. It does not depend on groups: a mean of means.

    Args:
      samples: number of pairs, >= 1. adaptive: T = |w|, see `worst_case`.
    """
    checks.integer("samples", samples, 1)
    rho, scale = measures.check_radius(rho), measures.ball_metric(params, adaptive)
    at_w = np.array(measures.evaluate(objective, params, batch, errors), float)
    met = []
    for draw in jax.random.split(key, samples):
        for w in _pair(draw, params, scale, rho, on_sphere):
            met.append(measures.evaluate(objective, w, batch, errors))
    rise = np.array(met, float).mean(0) - at_w
    return Sharpness(*map(float, (*rise, *at_w)))


@functools.partial(jax.jit, static_argnames="on_sphere")
def _pair(
    key: jax.Array, params: Tree, scale: Tree, rho: trees.Scalar, on_sphere: bool
) -> list[Tree]:
    """w + T u and w - T u of a random u."""
    noise = trees.random_like(key, scale)
    noise = trees.scale(trees.unit(noise) if on_sphere else noise, rho)
    steps = (
        jax.tree.map(lambda t, n, s=sign: s * t * n, scale, noise)
        for sign in (1.0, -1.0)
    )
    return [trees.add(params, step) for step in steps]
