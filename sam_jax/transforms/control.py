"""Where and when SAM acts: on some leaves, every few steps, between two steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import devices, trees
from sam_jax.core.groups import Count
from sam_jax.transforms.checks import check_count, check_number

Tree = Any


def only(
    mask: Tree | Callable[[Tree], Tree], tx: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Perturbs the leaves of a mask alone; every leaf gets its gradient there.

    SAM-ON (Mueller et al. 2023) perturbs normalisation layers only:
    `only(sam_jax.norm_layers, sam_jax.sam(rho))`. The norm of the ascent gradient is
    taken over the masked leaves. Unlike `optax.masked`, the others are still trained.

    Args:
      mask: tree of Python bools like params, or a function from params to one.
      tx: a SAM transform, or a chain with SAM transforms.
    """
    inner = optax.with_extra_args_support(tx)

    def update(updates, state, params=None, *, ascent_mask=None, **extra):
        own = mask(params) if callable(mask) else mask
        if ascent_mask is not None:
            own = jax.tree.map(lambda a, b: a and b, own, ascent_mask)
        if not any(jax.tree.leaves(own)):
            raise ValueError(
                "only received a mask that selects no parameter, so that nothing "
                "would be perturbed; for norm layers the network must have some. Give "
                "another mask, or leave the transform out."
            )
        return inner.update(updates, state, params, ascent_mask=own, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def norm_layers(params: Tree) -> Tree:
    """Mask of the normalisation layers: leaves whose path names a norm layer.

    A path names one if a part of it contains "norm" or is "bn" or "gn" with an optional
    number, in any case: BatchNorm_0/scale, final_norm/bias, bn1/scale.
    """

    def one(path, leaf):
        del leaf
        parts = [str(getattr(p, "key", getattr(p, "name", p))).lower() for p in path]
        bare = [part.rstrip("0123456789").rstrip("_") for part in parts]
        return any("norm" in part for part in parts) or bool({"bn", "gn"} & {*bare})

    return jax.tree_util.tree_map_with_path(one, params)


def kernels(params: Tree) -> Tree:
    """Mask of the leaves with two axes or more: weights of layers, no biases or scales.

    They are what AWP perturbs (`layerwise_sam`). In a stack of layers that are compiled
    as one loop every leaf has a further axis; make a mask by name there.
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


class PeriodicState(NamedTuple):
    """count: steps taken, i32[]. inner: state of the wrapped transform.
    kept: the part of its last gradient orthogonal to the plain one; None without reuse.
    """

    count: jax.Array
    inner: Any
    kept: Tree


def periodic(
    tx: optax.GradientTransformation,
    every: Count,
    *,
    reuse: float = 0.0,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Applies `tx` on steps 0, every, 2 every, ... and hands the gradient on between.

    With `reuse` this is LookSAM (Liu et al. 2022, Alg. 1): the part g_v of SAM's
    gradient orthogonal to the plain gradient changes slowly, so the steps between use
    g + reuse |g| g_v / |g_v|.

    Args:
      tx: a SAM transform, or a chain with one.
      every: interval in steps, >= 1; 1 is `tx` itself.
      reuse: LookSAM's alpha (.7 there), >= 0; 0 hands the plain gradient on.
      axis_name: as in `tx`: what is handed on is the mean over devices.

    The step's branch is chosen inside the compiled function. With convolutions on CPU
    that is slow (see `sam_jax.ops.loops`): choose between two compiled steps in Python
    there, as `sam_jax.training` does.
    """
    check_count("periodic", "every", every)
    check_number("periodic", "reuse", reuse)
    inner = optax.with_extra_args_support(tx)
    keeps = reuse > 0

    def init(params):
        kept = jax.tree.map(jnp.zeros_like, params) if keeps else None
        return PeriodicState(jnp.zeros((), jnp.int32), inner.init(params), kept)

    def update(updates, state, params=None, **extra):
        def sharp(_):
            new, inner_state = inner.update(updates, state.inner, params, **extra)
            plain = devices.mean_of_own(updates, axis_name)
            kept = _orthogonal_part(new, plain) if keeps else None
            return new, inner_state, kept

        def plain(_):
            new = devices.mean_of_own(updates, axis_name)
            if keeps:
                length = reuse * trees.norm(new)
                new = trees.add_scaled(new, length, trees.unit(state.kept))
            return new, state.inner, state.kept

        new, inner_state, kept = jax.lax.cond(
            state.count % every == 0, sharp, plain, None
        )
        count = optax.safe_increment(state.count)
        return new, PeriodicState(count, inner_state, kept)

    return optax.GradientTransformationExtraArgs(init, update)


class ActiveState(NamedTuple):
    """count: steps taken, i32[]. inner: state of the wrapped transform."""

    count: jax.Array
    inner: Any


def active_between(
    tx: optax.GradientTransformation,
    start: int = 0,
    stop: int | None = None,
    *,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Applies `tx` on steps start <= t < stop, and hands the gradient on otherwise.

    ERM -> SAM is `active_between(sam(rho), start=t)`, SAM -> ERM is `stop=t` (Fig. 2).
    The state of `tx` (its schedule's count too) stands still while it is off.

    Args:
      tx: a SAM transform, or a chain with one.
      start: first step with `tx`, >= 0. stop: first step without, None for never.
      axis_name: as in `tx`: what is handed on is the mean over devices.

    On CPU with convolutions, see `periodic`.
    """
    if start < 0 or (stop is not None and stop < start):
        raise ValueError(
            f"active_between received start={start}, stop={stop}; it needs "
            "0 <= start <= stop, in optimiser steps."
        )
    inner = optax.with_extra_args_support(tx)

    def init(params):
        return ActiveState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates, state, params=None, **extra):
        on = state.count >= start
        if stop is not None:
            on &= state.count < stop
        new, inner_state = jax.lax.cond(
            on,
            lambda _: inner.update(updates, state.inner, params, **extra),
            lambda _: (devices.mean_of_own(updates, axis_name), state.inner),
            None,
        )
        return new, ActiveState(optax.safe_increment(state.count), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _orthogonal_part(a: Tree, b: Tree) -> Tree:
    """a less its component along b, in the dtypes of a."""
    direction = trees.unit(b)
    return trees.add_scaled(a, -trees.dot(a, direction), direction)
