"""Ascent along what earlier steps have left, so that it waits for no gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.transforms.directions import climb_along, init_direction
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


def init_zeros(params: Tree, **_: Any) -> Tree:
    """The state of `dp_sat` and `msam`: a tree of zeros like params."""
    return trees.zeros_like(params)


def dp_sat_gradient(point: Point, *, decay: trees.Scalar = 0.0) -> Gradient:
    """The gradient at w + rho d / |d|, d an average of what the last steps descended.

    DP-SAT (Park et al. 2023, ICML, Alg. 1), without its clipping and noise, where d is
    what the last step descended; with a decay `vasso` of gradients that are there
    already: d_t = decay d_{t-1} + (1 - decay) g_t. One gradient a step; the first is
    plain. As for every variant of one gradient, a training run's loss and running
    statistics are those of the perturbed point.

    Args:
      rho, axis_name: as in `sam`.
      decay: of the average, in [0, 1); 0 is DP-SAT.
    """
    there = point.there(point.perturbation(point.state, ascent.normalized))
    decayed = trees.add_scaled(point.state, decay - 1, point.state)
    return there._replace(state=trees.add_scaled(decayed, 1 - decay, there.gradient))


def msam_gradient(point: Point, *, momentum: trees.Scalar = 0.9) -> Gradient:
    """The gradient at w - rho v / |v|, v the momentum, which points uphill (MSAM).

    Becker et al. 2024 (arXiv:2401.12033), Alg. 1: v_t = momentum v_{t-1} + g_t of the
    gradients there, so that w - rho v / |v| is where heavy-ball SGD is heading. One
    gradient a step; the first is plain. The momentum is kept here as well as in the
    optimiser behind, which may therefore be any; a weight decay of that one is not in
    v, while the authors' code has it there. Loss and statistics as for `dp_sat`.

    Args:
      rho, axis_name: as in `sam`; the authors take 3 where SAM takes .2.
      momentum: in [0, 1), best that of the optimiser behind.
    """
    ahead = jax.tree.map(jnp.negative, point.state)
    there = point.there(point.perturbation(ahead, ascent.normalized))
    decayed = trees.add_scaled(point.state, momentum - 1, point.state)
    return there._replace(state=trees.add(decayed, there.gradient))


def last_gradient() -> optax.GradientTransformation:
    """The gradient of the step before, zero at first."""

    def update(gradient, state, params=None):
        del params
        return state, trees.add(trees.zeros_like(state), gradient)

    return optax.GradientTransformation(trees.zeros_like, update)


def init_last(params: Tree, **_: Any) -> Tree:
    """The state of `async_sam`."""
    return init_direction(params, ascent=last_gradient())


def async_sam_gradient(point: Point) -> Gradient:
    """The gradient at w + rho g_old / |g_old|, g_old the last step's gradient at its w.

    AsyncSAM (Jo et al. 2025, arXiv:2503.11147) with a delay of one step. Two gradients
    a step, neither of which waits for the other, where SAM's second waits for its
    first. The first step is plain. Both are of the same batch here; the paper takes
    the ascent's of a smaller one.

    Args:
      rho, axis_name: as in `sam`.
    """
    return climb_along(point, last_gradient(), ascent.normalized)


dp_sat = make_factory("dp_sat", dp_sat_gradient, init_zeros)
msam = make_factory("msam", msam_gradient, init_zeros)
async_sam = make_factory("async_sam", async_sam_gradient, init_last)
