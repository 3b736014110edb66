"""Ascent along another direction than the gradient: any optax transformation of it.

A direction rule is an `optax.GradientTransformation` from the gradient at w to the
direction of ascent: momentum (`optax.trace`), an average (`optax.ema`), the sign
(`optax.scale_by_sign`), RMS (`optax.scale_by_rms`), or one of those below. Its state is
that of the variant: one for the whole batch, so that groups of m have none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


def init_direction(
    params: Tree, *, ascent: optax.GradientTransformation | None = None, **_: Any
) -> Tree:
    """The state of a direction rule, for floating leaves alone; None without a rule.

    Raises: ValueError for a rule that turns a gradient round, as an optimiser with a
      learning rate does.
    """
    if ascent is None:
        return None
    rule = _on_floating_leaves(ascent)
    state = rule.init(params)
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
        uphill = jax.tree.map(jnp.ones_like, params)
        if trees.dot(rule.update(uphill, state, params)[0], uphill) < 0:
            raise ValueError(
                "Received an ascent that turns the gradient round, as an optimiser "
                "with a learning rate does; give the transformation alone, such as "
                "optax.trace(0.9), optax.ema(0.9) or optax.scale_by_rms()."
            )
    return state


def climb_along(
    point: Point, ascent: optax.GradientTransformation, rule: ascents.Rule
) -> Gradient:
    """The gradient at the ascent point of the direction that a direction rule gives.

    The rule sees the masked gradient, so that other leaves count in no norm of its.
    """
    here = point.here()
    direction, state = _on_floating_leaves(ascent).update(
        point.masked(here.gradient), point.state, point.params
    )
    return point.climb(here, direction, rule)._replace(state=state)


def evaluate(
    point: Point,
    rule: ascents.Rule,
    *,
    ascent: optax.GradientTransformation | None = None,
    **options: Any,
) -> Gradient:
    """The gradient at a rule's ascent point, along g or what `ascent` makes of it.

    Args:
      options: of `Point.evaluate`; without effect where there is an `ascent`.
    """
    if ascent is not None:
        return climb_along(point, ascent, rule)
    return point.evaluate(reuse=True, rule=rule, **options)


def _on_floating_leaves(
    ascent: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The rule on floating leaves; other leaves have no state and pass."""
    return optax.masked(ascent, lambda tree: jax.tree.map(trees.is_floating, tree))


class Average(NamedTuple):
    """count: gradients seen, i32[]. mean: their moving average, like params."""

    count: jax.Array
    mean: Tree


def start_average(params: Tree) -> Average:
    """The average of no gradient yet."""
    return Average(jnp.zeros((), jnp.int32), trees.zeros_like(params))


def update_average(average: Average, gradient: Tree, decay: trees.Scalar) -> Average:
    """decay * mean + (1 - decay) * gradient; the first gradient itself."""
    kept = jnp.where(average.count == 0, 0, decay)
    step = jax.tree.map(jnp.subtract, trees.scale(gradient, 1), average.mean)
    mean = trees.add_scaled(average.mean, 1 - kept, step)
    return Average(optax.safe_increment(average.count), mean)


def moving_average(decay: trees.Scalar) -> optax.GradientTransformation:
    """The average of the gradients, this step's with the weight 1 - decay."""

    def update(gradient, state, params=None):
        del params
        state = update_average(state, gradient, decay)
        return state.mean, state

    return optax.GradientTransformation(start_average, update)


def less_average(sigma: trees.Scalar, decay: trees.Scalar):
    """The gradient less sigma times the average of those before it."""

    def update(gradient, state, params=None):
        del params
        direction = trees.add_scaled(gradient, jnp.negative(sigma), state.mean)
        return direction, update_average(state, gradient, decay)

    return optax.GradientTransformation(start_average, update)


def vasso_gradient(point: Point, *, theta: trees.Scalar = 0.4) -> Gradient:
    """The gradient at w + rho d / |d|, d the moving average of the gradients (VaSSO).

    d_t = (1 - theta) d_{t-1} + theta g_t from d_1 = g_1 (Li & Giannakis 2023,
    arXiv:2309.15639, Alg. 2): the ascent follows less of a batch's noise. Two gradients
    a step.

    Args:
      rho, axis_name: as in `sam`.
      theta: weight of this step's gradient in d, in (0, 1]; 1 is SAM. The authors' code
        has .9 where nothing is said.
    """
    return climb_along(point, moving_average(1 - theta), ascents.normalized)


def friendly_sam_gradient(
    point: Point, *, sigma: trees.Scalar = 1.0, decay: trees.Scalar = 0.9
) -> Gradient:
    """The gradient at w + rho d / |d|, d = g - sigma m (friendly SAM, F-SAM).

    Li et al. 2024 (CVPR, arXiv:2403.12350): without the part that batches share, m, a
    batch's ascent hurts the others less. m_t = decay m_{t-1} + (1 - decay) g_t from
    m_1 = g_1; as in the authors' code d takes the m before this step, and the first
    step is SAM's. Two gradients a step.

    Args:
      rho, axis_name: as in `sam`.
      sigma: weight of the average, >= 0; 0 is SAM. decay: of the average, in [0, 1).
    """
    rule = less_average(sigma, decay)
    return climb_along(point, rule, ascents.normalized)


def init_average(params: Tree, **_: Any) -> Tree:
    """The state of `vasso` and `friendly_sam`."""
    return init_direction(params, ascent=moving_average(0.0))


vasso = make_factory("vasso", vasso_gradient, init_average)
friendly_sam = make_factory("friendly_sam", friendly_sam_gradient, init_average)
