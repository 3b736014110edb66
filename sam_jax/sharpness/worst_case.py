"""Worst-case sharpness: how much loss and error rise within a ball of perturbations.

    S(w) = (1/k) sum_J max_{|T^-1 delta_J| <= rho} L_J(w + delta_J) - L_J(w)

over k groups J of m examples: m-sharpness (Foret et al. 2021), for the whole batch the
usual sharpness (Keskar et al. 2017). T is 1, or |w| for the adaptive one.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import checks, schedules
from sam_jax.core import trees
from sam_jax.core.objective import Objective
from sam_jax.sharpness import measures
from sam_jax.sharpness.measures import Values

Tree = Any
Oracle = Callable[[Tree], tuple[Values, Tree]]
METHODS = ("one_step", "projected", "apgd")


class Sharpness(NamedTuple):
    """loss, error: rise over the values at w, means over groups, floats.
    loss_at_w, error_at_w: those values.
    """

    loss: float
    error: float
    loss_at_w: float
    error_at_w: float


def worst_case(
    objective: Objective,
    params: Tree,
    batch: Tree,
    *,
    rho: float,
    m: int | None = None,
    method: str = "apgd",
    steps: int = 20,
    adaptive: bool = False,
    errors: measures.Errors = measures.errors,
) -> Sharpness:
    """The largest rise of the loss found, and of the error on the same way.

    A lower bound of the true maximum: how good depends on the method. Every method
    starts at w and keeps the largest values it has met, so that no rise is negative.

    Args:
      objective: at evaluation, see the package.
      batch: pytree, examples first.
      rho: radius of the ball, >= 0.
      m: examples that share a perturbation, a divisor of their number; None for all.
      method: "one_step", the step of SAM; "projected", normalised gradient ascent of
        `steps` steps of 2 rho / steps, projected on the ball; "apgd", the same with
        momentum and the step size halved when it ceases to pay (Croce & Hein 2020).
      steps: >= 1, of the last two.
      adaptive: the ball |delta / |w|| <= rho, element by element.
      errors: (outputs, batch) -> 1 for every wrong prediction, [B].

    Raises: ValueError for an unknown method and values out of range.
    """
    climb = checks.choose("method", method, _CLIMBS)
    rho, steps = measures.check_radius(rho), checks.integer("steps", steps, 1)
    scale = measures.ball_metric(params, adaptive)
    start = jax.tree.map(jnp.zeros_like, scale)
    rises = []
    for group in measures.in_groups(batch, m):

        def oracle(u: Tree, group: Tree = group) -> tuple[Values, Tree]:
            return measures.evaluate_and_ascend(
                objective, errors, params, scale, u, group
            )

        met = climb(oracle, start, rho, steps)
        values = np.array([[v.loss, v.error] for v in met], float)
        rises.append((values.max(0) - values[0], values[0]))
    rise, at_w = np.mean(rises, axis=0)
    return Sharpness(*map(float, (*rise, *at_w)))


def _one_step(oracle: Oracle, u: Tree, rho: float, steps: int) -> list[Values]:
    """The values at w and at rho g / |g|."""
    del steps
    here, slope = oracle(u)
    there, _ = oracle(_normalized(slope, rho))
    return [here, there]


def _projected(oracle: Oracle, u: Tree, rho: float, steps: int) -> list[Values]:
    """The values on the way of normalised, projected gradient ascent."""
    met = []
    for _ in range(steps):
        values, slope = oracle(u)
        met.append(values)
        u = _move(u, slope, 2 * rho / steps, rho)
    return [*met, oracle(u)[0]]


def _apgd(oracle: Oracle, u: Tree, rho: float, steps: int) -> list[Values]:
    """The values on the way of ascent with momentum and halved steps.

    At each checkpoint the step is halved, and the search goes on from the best point,
    if the loss rose in at most 3/4 of the steps since the last one, or if the step was
    not halved there and the best loss has not improved since.
    """
    values, slope = oracle(u)
    met, size, previous = [values], 2 * rho, u
    best_u, best_slope, best = u, slope, float(values.loss)
    rising, at_last, halved = 0, best, False
    for step, length in enumerate(schedules.apgd_checkpoints(steps)):
        u, previous = _with_momentum(u, previous, slope, size, rho, step == 0), u
        values, slope = oracle(u)
        met.append(values)
        rising += float(values.loss) > float(met[-2].loss)
        if float(values.loss) > best:
            best_u, best_slope, best = u, slope, float(values.loss)
        if length:
            stuck = not halved and best <= at_last
            halved = rising <= schedules.APGD_IMPROVING * length or stuck
            if halved:
                size /= 2
                u, slope, previous = best_u, best_slope, best_u
            rising, at_last = 0, best
    return met


@functools.partial(jax.jit, static_argnames="first")
def _with_momentum(
    u: Tree,
    previous: Tree,
    slope: Tree,
    size: trees.Scalar,
    rho: trees.Scalar,
    first: bool,
) -> Tree:
    """P(u + a (P(u + size g / |g|) - u) + (1 - a) (u - previous)); a = 1 at first."""
    z = _move(u, slope, size, rho)
    if first:
        return z
    a = schedules.APGD_MOMENTUM
    mixed = jax.tree.map(
        lambda u, z, p: u + a * (z - u) + (1 - a) * (u - p),
        u,
        z,
        previous,
    )
    return trees.project(mixed, rho)


@jax.jit
def _normalized(slope: Tree, rho: trees.Scalar) -> Tree:
    return trees.scale(trees.unit(slope), rho)


@jax.jit
def _move(u: Tree, slope: Tree, size: trees.Scalar, rho: trees.Scalar) -> Tree:
    """A normalised step, projected on the ball."""
    return trees.project(trees.add_scaled(u, size, trees.unit(slope)), rho)


_CLIMBS = {"one_step": _one_step, "projected": _projected, "apgd": _apgd}
assert tuple(_CLIMBS) == METHODS
