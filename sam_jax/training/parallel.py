"""Data parallelism: a step is mapped over devices and processes here.

A step is written for one device, with a named axis over which it takes means. Here it
is mapped with `jax.pmap`; `sharded` maps the same step for sharded parameters. One
device alone runs it under plain `jax.jit`, without the axis: the same function, at
0.5 ms a step less.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sam_jax.training import flat_state, liveness

AXIS = "data"

Tree = Any


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a run computes: every device has the whole state, and a part of a batch.

    count: devices of all processes together.
    local: this process's devices, in order.
    """

    count: int
    local: tuple[jax.Device, ...]

    @property
    def axis_name(self) -> str | None:
        """The mapped axis, None if it has one place."""
        return AXIS if self.width > 1 else None

    @property
    def width(self) -> int:
        """Places of the mapped axis: a group of m may lie on several of them."""
        return self.count

    @property
    def shares(self) -> int:
        """The equal parts that a batch is split into."""
        return self.count

    def map(
        self,
        function: Callable,
        *,
        rows: tuple[int, ...] = (),
        gives_rows: bool = False,
        donate: tuple[int, ...] = (),
    ) -> Callable:
        """Compiles a per-device function of arguments made by this layout.

        With several devices every array has a leading axis, one row for each device of
        this process; with one device it has none. (Those of `sharded.Layout` have
        none, however many devices there are.)

        Args:
          rows: positions of the arguments that `split` has made, of which a device gets
            its part. gives_rows: whether the results are of that kind; otherwise they
            are equal on all devices.
          donate: positions of the arguments whose memory the results may take over.
        """
        if self.axis_name is None:
            return jax.jit(function, donate_argnums=donate)
        everywhere = self.count == jax.device_count()
        return jax.pmap(
            function,
            axis_name=self.axis_name,
            donate_argnums=donate,
            devices=None if everywhere else self.local,
        )

    def spread(self, tree: Tree) -> Tree:
        """The same arrays for every device, still on the host."""
        if self.axis_name is None:
            return tree
        rows = len(self.local)
        return jax.tree.map(
            lambda x: np.broadcast_to(np.asarray(x), (rows, *np.shape(x))), tree
        )

    def shapes(self, tree: Tree) -> Tree:
        """Shapes and dtypes of `replicate` of a tree of shapes and dtypes."""
        lead = () if self.axis_name is None else (len(self.local),)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), tree
        )

    def create(self, function: Callable[[], Tree]) -> Tree:
        """What a function makes, where `place` would put it."""
        return function()

    def place(self, tree: Tree) -> Tree:
        """Puts a training state, or a part of it, where steps take it from."""
        return self.replicate(tree)

    def replicate(self, tree: Tree) -> Tree:
        """Puts the same arrays on every device."""
        if self.axis_name is None:
            return jax.device_put(tree, self.local[0])
        return self.map(lambda x: x)(self.spread(tree))

    def fetch(self, tree: Tree) -> Tree:
        """Brings results, equal on all devices, to the host, as NumPy arrays."""
        if self.axis_name is None:
            return jax.device_get(tree)
        return jax.device_get(
            jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)
        )

    def snapshot(self, tree: Tree) -> dict[str, Any]:
        """A training state as named arrays that later steps leave as they are."""
        return flat_state.flatten(self.fetch(tree))

    def sharding(
        self, name: str, shape: tuple[int, ...]
    ) -> jax.sharding.Sharding | None:
        """How `place` shards an array of a checkpoint; None to read it to the host."""
        del name, shape
        return None

    def split(self, batch: np.ndarray) -> Any:
        """A global batch [B, ...] as this process's rows [devices here, B / devices].

        Device 0 takes the first examples: groups of m consecutive ones stay the same
        for any number of devices.
        """
        if self.axis_name is None:
            return batch
        rows = batch.reshape(self.count, -1, *batch.shape[1:])
        start = jax.process_index() * len(self.local)
        return rows[start : start + len(self.local)]

    @functools.cached_property
    def greatest(self) -> Callable[[int], Any]:
        """(this process's integer) -> the largest of all processes, for `fetch`."""
        largest = self.map(lambda x: jax.lax.pmax(x, self.axis_name))
        return lambda value: largest(self.spread(np.int32(value)))


def layout(devices: int = 0) -> Layout:
    """Chooses the devices of a run.

    Args:
      devices: how many; 0 for all. With several processes it must be all of them.

    Raises: ValueError if there are fewer.
    """
    available = jax.device_count()
    count = devices or available
    if count > available or (jax.process_count() > 1 and count != available):
        raise ValueError(
            f"Received devices={devices}, while {available} "
            f"{'is' if available == 1 else 'are'} there in {jax.process_count()} "
            "process(es); use 0 for all of them."
        )
    return Layout(count, tuple(jax.local_devices()[:count]))


def per_device(batch_size: int, count: int, key: str) -> int:
    """Examples on one device; ValueError unless the devices share a batch evenly."""
    if batch_size % count:
        raise ValueError(
            f"Received {key}={batch_size} for {count} devices; it must be a multiple "
            f"of {count}. Take {batch_size - batch_size % count or count}, or other "
            "devices."
        )
    return batch_size // count


def connect(coordinator: str, process_id: int, process_count: int) -> None:
    """Joins the processes of a multi-host run; call it before anything uses JAX.

    Args:
      coordinator: host:port of process 0; '' for a run of one process.

    Raises: ValueError for several processes without a coordinator.
    """
    if not coordinator and (process_count, process_id) != (1, 0):
        raise ValueError(
            f"Received process_count={process_count}, process_id={process_id} without "
            "a coordinator; give the host:port of process 0, or one process, number 0."
        )
    if coordinator and not re.fullmatch(r".+:\d+", coordinator):
        raise ValueError(
            f"Received coordinator={coordinator!r}; give host:port, such as "
            "'10.0.0.1:1234'."
        )
    if coordinator:
        # The run has its own eyes for signals and for the end of other processes.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(coordinator, process_count, process_id)
        liveness.watch(process_id)


def agree(what: str, value: str | int) -> None:
    """Raises ValueError unless all processes come here with the same value.

    Args:
      what: the value in words, such as "their configuration".
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(str(value).encode()).digest(), np.int32)
    received = multihost_utils.process_allgather(digest)
    odd = [i for i, other in enumerate(received) if not np.array_equal(other, digest)]
    if odd:
        raise ValueError(
            f"Process {jax.process_index()} and process {odd[0]} of this run differ in "
            f"{what}; start all with the same recipe, data and --workdir, on a file "
            "system that they share."
        )


def is_loss_of_process(error: Exception) -> bool:
    """Whether an error is that another process of the run cannot be reached."""
    words = r"Gloo|NCCL|UNAVAILABLE|coordination service|Connection (closed|reset)"
    return jax.process_count() > 1 and re.search(words, str(error)) is not None


def is_first_process() -> bool:
    """Whether this process writes what only one may write."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process has come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
