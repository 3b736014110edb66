"""Who shares a perturbation: the whole batch, groups of m examples, single examples.

m counts examples of the global batch, in device order, so that the algorithm does not
change with the number of devices:

- m divides a device's batch: a device holds whole groups, and works on its own;
- a device's batch divides m: a group spans several devices, which average over it;
- m = None or the global batch: one group, averaged over all devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.core import devices, trees
from sam_jax.core.objective import batch_size, common_size
from sam_jax.ops import layouts, loops

Tree = Any
Count = int | np.integer


class Groups(NamedTuple):
    """size: examples of a group on this device, None for a batch seen whole whose
      leaves share no leading axis. number: groups on this device.
    axis_name: the mapped axis of devices, or None.
    shared: whether a group lies on several devices.
    spans: indices of the devices that share a group; None for all devices together.
    """

    size: int | None
    number: int
    axis_name: str | None
    shared: bool
    spans: devices.Spans | None = None

    def share(self, tree: Tree) -> Tree:
        """Mean over the devices that hold a part of the same group."""
        if self.axis_name is None or not self.shared:
            return tree
        return devices.mean(tree, self.axis_name, self.spans)

    def combine(self, tree: Tree) -> Tree:
        """Mean over all devices, of means over this device's groups."""
        return tree if self.axis_name is None else devices.mean(tree, self.axis_name)


def form(batch: Tree, m: Count | None, axis_name: str | None = None) -> Groups:
    """Divides a device's batch into groups of m consecutive examples.

    For m = None the batch is any pytree. Otherwise its leaves hold the examples on
    their leading axis.

    Raises: ValueError unless m divides the device's batch, or is a multiple of it that
      divides the global batch.
    """
    if m is None:
        return Groups(common_size(batch), 1, axis_name, shared=True)
    local = batch_size(batch)
    count = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    total = local * count
    if m == total:
        return Groups(local, 1, axis_name, shared=True)
    check_fit(m, total, count)
    if m <= local:
        return Groups(int(m), local // int(m), axis_name, shared=False)
    return Groups(local, 1, axis_name, True, spans(int(m) // local, count))


def spans(width: int, count: int) -> devices.Spans:
    """Numbers of the devices in blocks of `width`; those of a block share a group."""
    return tuple(tuple(range(i, i + width)) for i in range(0, count, width))


def check_fit(m: Count, total: int, devices: int = 1) -> None:
    """Raises ValueError unless groups of m fill a batch, and devices whole groups."""
    local = total // devices

    def fits(k: Count) -> bool:
        fills = local % k == 0 or (k % local == 0 and total % k == 0) if k > 0 else 0
        return bool(fills)

    if not fits(m):
        on = f" on {devices} devices, {local} on each" if devices > 1 else ""
        raise ValueError(
            f"Received m={m} for a batch of {total} examples{on}; groups must be equal "
            "and fill whole devices, or devices whole groups: m in "
            f"{[k for k in range(1, total + 1) if fits(k)]}."
        )


def average(
    function: Callable[[Tree], tuple[Tree, Tree]],
    batch: Tree,
    groups: Groups,
    chunk: Count | None = None,
) -> tuple[Tree, Tree]:
    """Runs `function(group's batch) -> (to average, to keep)` on every group.

    Args:
      chunk: groups worked on at once by vmap, a divisor of their number; None takes all
        of them. Memory holds `chunk` perturbed parameter sets plus one accumulator.

    Returns: the mean over groups of the first part (in the dtype it came in, summed in
      float32 or wider), and the second part of all examples, [B, ...].
    """
    if groups.number == 1:
        return function(batch)
    pieces = split(batch, groups.number)
    like, _ = jax.eval_shape(function, layouts.types_of_one(pieces))
    return average_sums(lambda p: _sum_of_groups(function, p), pieces, like, chunk)


def average_sums(
    sums: Callable[[Tree], tuple[Tree, Tree]],
    pieces: Tree,
    like: Tree,
    chunk: Count | None = None,
) -> tuple[Tree, Tree]:
    """`average` for a function that takes several groups and adds up itself.

    Args:
      sums: groups' batches [k, size, ...] -> (sum over groups, kept [k * size, ...]).
      pieces: all groups' batches, [number, size, ...]. like: the dtypes of the mean.

    Chunk number j of c takes the groups j, c + j, 2 c + j, ..., so that devices over
    which the batch is split have a share of every chunk.
    """
    number = batch_size(pieces)
    size = number if chunk is None else int(chunk)
    if size < 1 or number % size:
        raise ValueError(
            f"Received chunk={chunk} for {number} groups; it must be a divisor of the "
            "number of groups on a device, or None for all groups at once."
        )
    if size == number:
        total, kept = sums(pieces)
    else:
        chunks = jax.tree.map(lambda x: layouts.split(x, size, within=False), pieces)
        total, kept = _sum_of_chunks(sums, _swap(chunks))
        parts = jax.tree.map(jax.vmap(lambda x: layouts.split(x, size)), kept)
        kept = join(join(_swap(parts)))
    mean = jax.tree.map(lambda t, x: (t / number).astype(x.dtype), total, like)
    return mean, kept


def split(batch: Tree, count: Count) -> Tree:
    """[B, ...] -> [count, B / count, ...] on every leaf."""
    return jax.tree.map(lambda x: layouts.split(x, int(count)), batch)


def join(batch: Tree) -> Tree:
    """[count, size, ...] -> [count * size, ...] on every leaf."""
    return jax.tree.map(layouts.join, batch)


def _swap(tree: Tree) -> Tree:
    """[a, b, ...] -> [b, a, ...] on every leaf."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def _sum_of_groups(function: Callable, pieces: Tree) -> tuple[Tree, Tree]:
    if batch_size(pieces) == 1:  # vmap would make grouped convolutions of these
        averaged, kept = function(jax.tree.map(lambda x: x[0], pieces))
        return jax.tree.map(trees.widen, averaged), kept
    averaged, kept = jax.vmap(function)(pieces)
    return jax.tree.map(lambda x: jnp.sum(trees.widen(x), 0), averaged), join(kept)


def _sum_of_chunks(sums: Callable, chunks: Tree) -> tuple[Tree, Tree]:
    """Adds up over chunks, one after another: a scan where compiled loops are not slow,
    otherwise unrolled, tied together so that one chunk is in memory at a time.

    Returns: the sum, and what is kept of each chunk, [chunks, ...].
    """
    first, *others = (
        jax.tree.map(lambda x, i=i: x[i], chunks) for i in range(batch_size(chunks))
    )
    if not loops.are_slow_with(sums, first):
        types, _ = layouts.types_of_results(sums, first)

        def body(total, chunk):
            summand, kept = sums(chunk)
            return jax.tree.map(jnp.add, total, summand), kept

        return jax.lax.scan(body, jax.tree.map(layouts.zeros, types), chunks)
    total, kept = sums(first)
    parts = [kept]
    for chunk in others:
        total, chunk = jax.lax.optimization_barrier((total, chunk))
        summand, kept = sums(chunk)
        total = jax.tree.map(jnp.add, total, summand)
        parts.append(kept)
    return total, jax.tree.map(lambda *x: jnp.stack(x), *parts)
