"""The sharpness-aware gradient: the one compiled core of everything in this library.

The optax transforms replace a gradient by it, the training step applies it, the flows
negate it as a vector field, and the toys iterate it.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, devices, groups, passes, randomness, trees
from sam_jax.core.passes import Oracle
from sam_jax.ops import layouts

Tree = Any
SWAPS = ("direction", "derivative")


class Gradient(NamedTuple):
    """A gradient and what the passes that made it know of the unperturbed point.

    gradient: tree like params; mean over all groups and devices.
    clean: mean over groups of the gradients at w. None where no pass computes it.
    losses: per-example losses at w without the penalty, f[B] of this device's batch;
      of a MeanLoss the means over its groups or microbatches, f[groups].
    outputs: objective.predict at w, [B, ...] of this device's batch.
    aux: what predict hands back beside its outputs at w (`has_aux`), mean over groups.
    ascent_norm: l2 norm of the perturbation, mean over groups, f[].
    state: of the variant after this step, for one that has a state; None otherwise.

    A variant of a single gradient has no pass at w: losses, outputs and aux are then
    those of the point where its gradient is taken.

    Under `jax.jit` the fields that nobody reads cost nothing. losses, outputs and aux
    are None when the gradient comes from a bare grad_fn.
    """

    gradient: Tree
    clean: Tree
    losses: jax.Array | None
    outputs: Tree
    aux: Tree
    ascent_norm: jax.Array
    state: Tree = None


def loss_gradient(
    oracle: Oracle,
    params: Tree,
    batch: Tree,
    *,
    axis_name: str | None = None,
) -> Gradient:
    """The plain gradient, of mean loss plus penalty (ERM)."""
    params = devices.own(params, axis_name)
    if callable(oracle):
        devices.refuse_averages(oracle, params, batch, axis_name)
    point = passes.of(oracle, params, batch)
    gradient, aux = point.gradient(), point.aux
    devices.refuse_shared("a loss that", point.losses, axis_name)
    if axis_name is not None:
        gradient, aux = devices.mean((gradient, aux), axis_name)
    zero = jnp.zeros((), jnp.float32)
    return Gradient(gradient, gradient, point.losses, point.outputs, aux, zero)


def sharpness_aware_gradient(
    oracle: Oracle,
    params: Tree,
    batch: Tree,
    *,
    rho: trees.Scalar,
    m: groups.Count | None = None,
    swap: str | None = None,
    rule: ascent.Rule = ascent.normalized,
    ascent_steps: groups.Count = 1,
    ascent_step_size: trees.Scalar | None = None,
    mask: Tree = None,
    ascent_batch: Tree = None,
    chunk: groups.Count | None = None,
    clean: Tree = None,
    axis_name: str | None = None,
) -> Gradient:
    """Mean over groups J of grad L_J at w + delta_J, the ascent point of each group.

    One group of the whole batch is SAM (Eq. 5, 20; Eq. 18 unnormalised), groups of one
    example are SumMax (Eq. 2), groups of m are m-sharpness (Foret et al. 2021), and an
    ascent batch of its own is MaxSum (Eq. 1, 19).

    Args:
      oracle: an Objective, a MeanLoss, either over microbatches (`passes.Accumulated`),
        or grad_fn(params, batch) -> mean gradient over the batch.
      params: pytree of floating leaves; integer leaves stay as they are.
      batch: pytree, examples on the leading axis.
      rho: ascent radius, or step size of an unnormalised rule, >= 0.
      m: examples that share a perturbation, counted over all devices, consecutive in
        the batch; None for the whole batch.
      swap: None for SAM's gradient; "direction" takes only the pull-back at the ascent
        point and the loss derivative dl/doutputs at w; "derivative" the opposite
        (Table 1). The penalty's gradient belongs to the pull-back. The swaps cost what
        SAM costs.
      rule: perturbation rule, see `core.ascent`.
      ascent_steps, ascent_step_size: see `ascent.ascend`.
      mask: tree of bools like params: the leaves that are perturbed.
      ascent_batch: batch for the ascent alone, in one group.
      chunk: groups worked on at once, None for all.
      clean: gradient at w on the (ascent) batch, if known; for a single group.
      axis_name: mapped axis of devices that share a global batch. grad_fn must then
        return the mean over its own device alone.

    Raises: ValueError for groups that do not fit, an unknown swap, and a swap without
      an Objective.
    """
    check_swap(swap)
    ascent.check_radius("sharpness_aware_gradient", rho)
    if swap is not None and not passes.shows_outputs(oracle):
        raise ValueError(
            f"Received swap={swap!r}, which takes the loss apart at the outputs, with "
            "a bare grad_fn or scalar loss, which hides them: pass objective="
            "sam_jax.Objective(predict, loss)."
        )
    params = devices.own(params, axis_name)
    formed = groups.form(batch, m, axis_name)
    if formed.number > 1 and not (clean is None and ascent_batch is None):
        raise ValueError(
            f"Received m={m} with clean= or ascent_batch=; these belong to a single "
            "perturbation: leave them out, or use m=None."
        )
    if callable(oracle):
        devices.refuse_averages(oracle, params, batch, axis_name)
    devices.refuse_shared("a gradient that", clean, axis_name)
    if formed.number > 1:
        group = layouts.types_of_one(groups.split(batch, formed.number))
        randomness.refuse_shared(passes.traceable(oracle), params, group)
    climb = functools.partial(
        ascent.ascend,
        rule=rule,
        steps=ascent_steps,
        step_size=ascent_step_size,
        mask=mask,
    )

    def one_group(group: Tree) -> tuple[Tree, Tree]:
        ascent_group = group if ascent_batch is None else ascent_batch
        here = passes.of(oracle, params, group)

        def gradient_at(w: Tree) -> Tree:
            return formed.share(passes.of(oracle, w, ascent_group).gradient())

        if clean is not None:
            first = formed.share(clean)
        elif ascent_batch is None:
            first = formed.share(here.gradient())
        else:
            first = gradient_at(params)
        delta = climb(gradient_at, params, rho, first=first)
        there = passes.of(oracle, trees.add(params, delta), group)
        devices.refuse_shared("a loss that", here.losses, axis_name)
        averaged = (_swap(swap, here, there), first, here.aux, trees.norm(delta))
        return averaged, (here.losses, here.outputs)

    averaged, kept = groups.average(one_group, batch, formed, chunk)
    gradient, first, aux, length = formed.combine(averaged)
    losses, outputs = kept
    return Gradient(gradient, first, losses, outputs, aux, length)


def check_swap(swap: str | None) -> None:
    """Raises ValueError for what is neither None nor one of SWAPS."""
    if swap is not None and swap not in SWAPS:
        raise ValueError(
            f"Received swap={swap!r}; it must be one of {SWAPS}, or None for SAM's own "
            "gradient."
        )


def surrogate_gap(clean: Tree, perturbed: Tree, alpha: trees.Scalar) -> Tree:
    """g_p - alpha * (the part of g orthogonal to g_p): the direction of GSAM.

    Zhuang et al. 2022, Alg. 1: descends the perturbed loss, and its gap to the loss,
    as far as that does not change the perturbed loss to first order.

    Args:
      clean: g, gradient at w. perturbed: g_p, gradient at the ascent point.
      alpha: weight of the gap, >= 0; 0 is SAM.
    """
    direction = trees.unit(perturbed)
    along = trees.scale(direction, trees.dot(clean, direction))
    orthogonal = jax.tree.map(jnp.subtract, trees.scale(clean, 1), along)
    return trees.add_scaled(perturbed, jnp.negative(alpha), orthogonal)


def _swap(swap: str | None, here: Any, there: Any) -> Tree:
    """The gradient from the passes at w and at the ascent point (Table 1)."""
    if swap == "direction":
        return there.gradient(here.cotangent)
    if swap == "derivative":
        return here.gradient(there.cotangent)
    return there.gradient()
