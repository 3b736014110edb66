"""Ascent, or descent, on some of the examples: selected ones, rare classes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.objective import Objective
from sam_jax.transforms.factory import make_factory
from sam_jax.transforms.point import Point

Tree = Any


def esam_gradient(
    point: Point, *, keep: trees.Scalar = 0.6, select: trees.Scalar = 0.5
) -> Gradient:
    """SAM along random entries of g, on the examples whose loss it raises most (ESAM).

    Du et al. 2022 (ICLR, arXiv:2110.03141): delta = rho / keep * b g / |g| with b of
    independent 0 or 1, P(1) = keep (Sec. 3.1; the authors' code draws whole leaves);
    the descent is on the part `select` of the batch with the largest rise of the loss
    from w to w + delta (Sec. 3.2), ties included. Two gradients a step: the pass at w +
    delta is over the whole batch, with weights 0 or 1 / select, so that shapes are
    fixed and BatchNorm sees all; the paper's time for the left out examples is not
    saved. Needs an `objective`.

    Args:
      rho, axis_name: as in `sam`. seed: of b, as in `random_perturbation`.
      keep: in (0, 1]. select: in (0, 1]. Both 1 is SAM.
    """
    objective = point.require_objective("esam")
    here = point._replace(gradient=None).here()
    assert here.losses is not None
    assert point.key is not None
    uniform = trees.random_like(point.key, here.gradient, jax.random.uniform)
    direction = jax.tree.map(
        lambda g, u: jnp.where(u < keep, g, 0),
        trees.unit(point.masked(here.gradient)),
        uniform,
    )
    delta = point.perturbation(trees.scale(direction, 1 / keep), ascent.unnormalized)
    weigh = _of_largest_rise(here.losses, select, point.axis_name)
    there = _weighted(point, objective, weigh).there(delta)
    return here._replace(gradient=there.gradient, ascent_norm=there.ascent_norm)


def _of_largest_rise(
    clean: jax.Array, select: trees.Scalar, axis_name: str | None
) -> Callable[[jax.Array, Tree], jax.Array]:
    """Weights 1 / select of the part of the batch whose losses rise most above clean
    ones, else 0.
    """

    def weigh(losses: jax.Array, batch: Tree) -> jax.Array:
        del batch
        rises = losses - clean
        everyone = rises
        if axis_name is not None:
            everyone = jax.lax.all_gather(rises, axis_name, tiled=True)
        lowest = jnp.min(everyone)
        least = trees.least_of_largest(everyone - lowest, select)
        number = jnp.sum(everyone - lowest >= least)
        return (rises - lowest >= least) * (everyone.size / number)

    return weigh


def imb_sam_gradient(
    point: Point, *, tail: Sequence[int] = (), labels: str = "labels"
) -> Gradient:
    """The plain gradient of frequent classes and SAM's of the rare ones (ImbSAM).

    Zhou et al. 2023 (ICCV, arXiv:2308.07815): grad L_head(w) + grad L_tail(w + delta),
    delta = rho g / |g| with g of L_tail, each the sum over its examples divided by the
    batch. The authors' code doubles L_tail; here that is left to weights in the loss.
    The penalty counts as tail. Three gradients a step: two at w. Needs an `objective`.

    Args:
      rho, axis_name: as in `sam`.
      tail: the rare classes. labels: name of the classes in the batch.
    """
    if not tail:
        raise ValueError(
            "imb_sam received tail=(); name the rare classes, such as tail=(7, 9), or "
            "use sam."
        )
    return _focused(
        "imb_sam",
        point,
        lambda batch: jnp.isin(_classes("imb_sam", batch, labels), jnp.asarray(tail)),
        strength=1.0,
    )


def focal_sam_gradient(
    point: Point,
    *,
    counts: Sequence[int] = (),
    focus: trees.Scalar = 1.0,
    strength: trees.Scalar = 0.5,
    labels: str = "labels",
) -> Gradient:
    """The plain gradient, and that of the rise of a loss that weighs rare classes.

    Focal-SAM (Li et al. 2025, ICML, arXiv:2505.01660): L(w) + strength (L_f(w + delta)
    - L_f(w)), L_f the loss with the weight (1 - p)^focus for an example whose class is
    the part p of the training examples, and delta = rho g / |g| with g of L_f. Three
    gradients a step: two at w. Needs an `objective`.

    Args:
      rho, axis_name: as in `sam`.
      counts: training examples of every class. labels: name of the classes in the
        batch.
      focus: the paper's gamma, >= 0. strength: its lambda, >= 0. 0 and 1 are SAM. 1
        and .5 are defaults of the authors' code, which takes 3 and .5 for CIFAR-10-LT.
    """
    if not sum(counts):
        raise ValueError(
            f"focal_sam received counts={tuple(counts)}; give the training examples of "
            "every class, such as counts=(500, 50, 5), or use sam."
        )
    weights = (1 - jnp.asarray(counts) / sum(counts)) ** focus
    return _focused(
        "focal_sam",
        point,
        lambda batch: (
            jax.nn.one_hot(_classes("focal_sam", batch, labels), len(counts)) @ weights
        ),
        strength,
    )


def _classes(name: str, batch: Tree, labels: str) -> jax.Array:
    """The classes of a batch, i[B]."""
    try:
        return jnp.asarray(batch[labels])
    except (KeyError, TypeError, IndexError):
        known = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"{name} received labels={labels!r}, which the batch does not have; it has "
            f"{known}. Give the name of the classes there."
        ) from None


def _focused(
    name: str,
    point: Point,
    weights: Callable[[Tree], jax.Array],
    strength: trees.Scalar,
) -> Gradient:
    """grad L(w) + strength (grad L_f(w + delta) - grad L_f(w)), L_f with weights."""
    objective = point.require_objective(name)
    focused = _weighted(point, objective, lambda losses, batch: weights(batch))
    here = point._replace(gradient=None).here()
    steep = focused.here().gradient
    there = focused.there(focused.perturbation(steep, ascent.normalized))
    rise = jax.tree.map(jnp.subtract, there.gradient, steep)
    gradient = trees.add_scaled(here.gradient, strength, rise)
    return here._replace(gradient=gradient, ascent_norm=there.ascent_norm)


def _weighted(
    point: Point, objective: Objective, weigh: Callable[[jax.Array, Tree], jax.Array]
) -> Point:
    """The same point of an objective with weights (losses, batch) -> f[B]."""

    def loss(outputs: Tree, batch: Tree) -> jax.Array:
        losses = objective.loss(outputs, batch)
        weights = jax.lax.stop_gradient(weigh(losses, batch))
        return weights.astype(losses.dtype) * losses

    return point._replace(
        oracle=dataclasses.replace(objective, loss=loss), gradient=None
    )


esam = make_factory("esam", esam_gradient, draws=True)
imb_sam = make_factory("imb_sam", imb_sam_gradient)
focal_sam = make_factory("focal_sam", focal_sam_gradient)
