"""Means over the devices of a named axis, as `jax.pmap` and `jax.shard_map` have one.

Here every device brings its own mean over its own examples, and the mean over devices
is taken here alone. Under the checks of `jax.shard_map` (check_vma, the default) that
takes care: the gradient with respect to parameters that all devices share is the sum
over devices, taken by JAX itself, and that of a loss which was averaged already is too
small by the number of devices. The checks' types tell these from a device's own values,
so that they are refused. The pattern that is right everywhere:

    own = jax.lax.pcast(params, axis_name, to="varying")  # under jax.shard_map alone
    gradient = jax.grad(mean_loss_of_own_examples)(own, batch)
    updates, state = tx.update(gradient, state, params, grad_fn=..., batch=batch)

with `tx` a transform that was given the same `axis_name`, and no psum or pmean.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.ops import compat

Tree = Any
Spans = tuple[tuple[int, ...], ...]  # numbers of the devices that share a group


def mean(tree: Tree, axis_name: str, spans: Spans | None = None) -> Tree:
    """Mean over mapped devices (within each of `spans`) on floating leaves."""
    leaves, rebuild = trees.floating(tree)
    if spans is None or not is_checked(axis_name):
        return rebuild(jax.lax.pmean(leaves, axis_name, axis_index_groups=spans))
    exchange = functools.partial(_mean_by_exchange, axis_name=axis_name, spans=spans)
    return rebuild([exchange(compat.varying(leaf, {axis_name})) for leaf in leaves])


def mean_of_own(gradient: Tree, axis_name: str | None) -> Tree:
    """The mean over all devices, if there are several, of the gradient that comes down
    a chain of transformations.

    Raises: ValueError if it is seen to be a sum or a mean over devices already.
    """
    if axis_name is None:
        return gradient
    refuse_shared("a gradient that", gradient, axis_name)
    return mean(gradient, axis_name)


def own(tree: Tree, axis_name: str | None) -> Tree:
    """The same values, known to each device as its own copy, so that gradients with
    respect to them are the device's own.
    """
    if axis_name not in jax.sharding.get_abstract_mesh().manual_axes:
        return tree  # no device axis, or one of vmap
    return jax.tree.map(lambda leaf: compat.varying(leaf, {axis_name}), tree)


def is_checked(axis_name: str | None) -> bool:
    """Whether types tell in which arrays devices differ: under `jax.shard_map` with its
    checks, not without them, and not under `jax.pmap` and `jax.vmap`.
    """
    return _differs(own(jnp.zeros(()), axis_name), axis_name)


def _differs(tree: Tree, axis_name: str | None) -> bool:
    return any(axis_name in compat.varying_axes(x) for x in jax.tree.leaves(tree))


def refuse_shared(what: str, tree: Tree, axis_name: str | None) -> None:
    """Raises ValueError if all of what devices should differ in is seen to be shared.

    Args:
      what: its name in the message. tree: arrays or their types, perhaps none.
    """
    floating = [x for x in jax.tree.leaves(tree) if trees.is_floating(x)]
    if floating and is_checked(axis_name) and not _differs(floating, axis_name):
        _refuse(what, axis_name)


def refuse_averages(
    grad_fn: Callable[[Tree, Tree], Tree],
    params: Tree,
    batch: Tree,
    axis_name: str | None,
) -> None:
    """Raises ValueError if a gradient function is seen to average over devices: its
    result, or a number, as a mean loss is one.
    """
    if not is_checked(axis_name):
        return
    traced = jax.make_jaxpr(grad_fn)(params, batch)
    refuse_shared("a grad_fn whose result", traced.out_avals, axis_name)
    for eqn in compat.equations(traced.jaxpr):
        operands: list[Any] = [v.aval for v in eqn.invars]
        sums = eqn.primitive.name.startswith("psum")
        if sums and axis_name in eqn.params["axes"] and operands[0].shape == ():
            _refuse("a grad_fn whose loss", axis_name)


def _refuse(what: str, axis_name: str | None) -> None:
    raise ValueError(
        f"Received {what} is summed over the devices of axis {axis_name!r} already, or "
        "shared by them; sam_jax takes the means over devices itself, and cannot tell "
        "a sum from a mean. Give each device's mean over its own examples, without "
        "psum or pmean, differentiated with respect to its own copy of the parameters: "
        f"jax.grad(loss)(jax.lax.pcast(params, {axis_name!r}, to='varying'), batch)."
    )


def _mean_by_exchange(leaf: jax.Array, *, axis_name: str, spans: Spans) -> jax.Array:
    """Mean within spans by sending the leaf around, since sums over a part of the
    devices are not implemented under the checks of `jax.shard_map`.

    Positions in a span are numbers of several digits, one for each prime factor of its
    width. Devices that differ in one digit add up what they have, digit by digit.
    """
    width, stride, total = len(spans[0]), 1, leaf
    for base in _prime_factors(width):
        turned = [
            jax.lax.ppermute(total, axis_name, _turns(spans, base, stride, by))
            for by in range(1, base)
        ]
        total, stride = sum(turned, start=total), stride * base
    return total / width


def _turns(spans: Spans, base: int, stride: int, by: int) -> Sequence[tuple[int, int]]:
    """(from, to) of every device: to the position whose digit is larger by `by`."""

    def to(position: int) -> int:
        digit = position // stride % base
        return position + ((digit + by) % base - digit) * stride

    return [(span[i], span[to(i)]) for span in spans for i in range(len(span))]


def _prime_factors(number: int) -> list[int]:
    for k in range(2, number + 1):
        if number % k == 0:
            return [k, *_prime_factors(number // k)]
    return []
