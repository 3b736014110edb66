"""A first radius, from the rise of the loss that it should cause."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import groups, implicit, trees
from sam_jax.core.gradient import loss_gradient
from sam_jax.core.objective import Objective
from sam_jax.transforms.checks import check_number, within

Tree = Any
NAME = "choose_rho"
ITERATIONS = 60  # of the root, at most; some ten are taken
DOUBLINGS = 20  # of the radius of the linearised loss, at most
PRECISION = 0.01  # of the rise, relative
ROUNDING = 0.1  # the same, where the loss is no finer: of a tiny budget in float32


class NoRadius(ValueError):
    """No radius meets a budget."""


def choose_rho(
    objective: Objective,
    params: Tree,
    batch: Tree,
    *,
    budget: float = 0.05,
    m: groups.Count | None = None,
) -> float:
    """The radius at which the mean loss rises by a share, to (1 + budget) L(w).

    delta = rho g / |g|, of the whole batch or of every group of m examples, as in `sam`
    and `sum_max`; L is the mean loss without the penalty. The rise is found to 1%, by a
    gradient and some ten forward passes: under 2% of an epoch of 250 batches.

    At the start of training it says where to begin a sweep, and not the radius of least
    test error, which depends on more than the loss. The same budget at another m
    gives a radius there, and `carry_rho` carries one; over batch size and width neither
    was better than the same radius.
    For the same rise in every step, in place of the same radius, use `le_sam`.

    Args:
      objective: see `Objective`; without aux where m is given.
      params, batch: w, and examples to measure on.
      budget: rise of the mean loss over the mean loss, > 0. The default was set on the
        sweeps over digits of `experiments/choose_rho.py`, where .3 was too much.
      m: examples that share a perturbation; None for the whole batch.

    Raises: NoRadius, a ValueError, for a budget that none meets: where the gradient or
      the loss is zero, and where the loss does not rise so far, jumps, or falls before.
    """
    if not isinstance(objective, Objective):
        raise ValueError(
            f"{NAME} received {objective!r:.80}; give a sam_jax.Objective(predict, "
            "loss), whose losses of single examples it averages."
        )
    within("(0, inf)")(NAME, "budget", budget)
    start, slope, ascent = jax.jit(functools.partial(_measure, objective, m=m))(
        params, batch
    )
    start, slope = float(start), float(slope)
    if not (math.isfinite(start) and start > 0 and slope > 0):
        raise NoRadius(
            f"{NAME} received weights with a mean loss of {start:.3g} and an ascent of "
            f"slope {slope:.3g}, where no radius raises it by a share; measure before "
            "training has ended."
        )
    loss_at = jax.jit(functools.partial(_mean_loss, objective, m=m))

    def gap(rho: float) -> float:
        value = float(loss_at(params, batch, ascent, rho)) / start - 1 - budget
        return math.inf if math.isnan(value) else value

    return _root(gap, budget, budget * start / slope)


def carry_rho(
    rho: float, *, m: groups.Count, to: groups.Count, noise_scale: float
) -> float:
    """rho of groups of m examples as that of groups of `to`, for an equal rise.

    The loss of a group rises by rho |g_J| to first order, and |g_J|^2 is |G|^2 (1 +
    noise_scale / m) on average, with the noise scale tr(Sigma) / |G|^2 of single
    examples' gradients (McCandlish et al. 2018, Eq. 2.9): so rho goes with
    (1 + noise_scale / m)^(-1/2). For plain SAM m is the batch size.

    Args:
      rho: radius at m. m, to: examples of a group.
      noise_scale: `sam_jax.gradient_noise_scale(...).scale`, in examples, >= 0.
    """
    check_number("carry_rho", "rho", rho)
    check_number("carry_rho", "noise_scale", noise_scale)
    for name, count in (("m", m), ("to", to)):
        within("[1, inf)")("carry_rho", name, count)
    return rho * math.sqrt((1 + noise_scale / m) / (1 + noise_scale / to))


def _measure(
    objective: Objective, params: Tree, batch: Tree, m: groups.Count | None
) -> tuple[jax.Array, jax.Array, Tree]:
    """The mean loss at w, the mean of |g_J|, and g / |g| of the whole batch."""
    here = loss_gradient(objective, params, batch)
    assert here.losses is not None
    loss = jnp.mean(here.losses)
    if m is not None:
        norms = implicit.per_example_norms(objective, params, batch, m)
        return loss, jnp.mean(norms), None
    return loss, trees.norm(here.gradient), trees.unit(here.gradient)


def _mean_loss(
    objective: Objective,
    params: Tree,
    batch: Tree,
    ascent: Tree,
    rho: trees.Scalar,
    *,
    m: groups.Count | None,
) -> jax.Array:
    """The mean loss at the ascent points of radius rho."""
    if m is None:
        there = trees.add_scaled(params, rho, ascent)
        outputs, _ = objective.forward(there, batch)
    else:
        _, outputs = implicit.perturbed_outputs(objective, params, batch, rho=rho, m=m)
    return jnp.mean(objective.losses(outputs, batch))


def _root(gap: Callable[[float], float], budget: float, first: float) -> float:
    """Where a gap that is -budget at 0 is zero, to a precision: the Illinois method.

    Args:
      first: radius to begin with.

    Raises: NoRadius if none is found where the gap is about zero.
    """
    low, below, high, above = _bracket(gap, budget, first)
    middle, value, last = high, above, 0
    for _ in range(ITERATIONS):
        middle = (low + high) / 2
        if math.isfinite(above):
            middle = (low * above - high * below) / (above - below)
        value = gap(middle)
        if abs(value) <= PRECISION * budget:
            return middle
        side = 1 if value > 0 else -1
        if side > 0:
            high, above, below = middle, value, below / (2 if last > 0 else 1)
        else:
            low, below, above = middle, value, above / (2 if last < 0 else 1)
        last = side
    if abs(value) <= ROUNDING * budget:
        return middle
    raise NoRadius(
        f"{NAME} received budget={budget}, which no radius meets: the mean loss jumps "
        f"over that rise near {middle:.3g}; give a smaller budget."
    )


def _bracket(
    gap: Callable[[float], float], budget: float, first: float
) -> tuple[float, float, float, float]:
    """Radii on both sides of a zero, each with its gap; the search ends where the loss
    falls again, since a zero beyond would be no small step.
    """
    low, below, high = 0.0, -budget, first
    above = gap(high)
    for _ in range(DOUBLINGS):
        if above >= 0 or above < below:
            break
        low, below, high = high, above, 2 * high
        above = gap(high)
    if above >= 0:
        return low, below, high, above
    rise, at = max((above, high), (below, low))
    raise NoRadius(
        f"{NAME} received budget={budget}, which no radius up to {high:.3g} meets: the "
        f"mean loss rises by {rise + budget:.3g} of itself at most, at {at:.3g}; give "
        "a smaller budget."
    )
