"""Sharded parameters: the step of `parallel`, under `jax.jit` over a mesh of devices.

The mesh has three axes. "data" holds copies of the parameters: the step is mapped over
it as `jax.pmap` does it, with the same named axis, so that groups of m examples and
their perturbations stay where their examples are. "fsdp" and "tensor" shard every leaf
of the state by a rule (see `partition`); within the step they are left to the compiler,
so that norms are those of whole leaves. A batch is split over "data", then "fsdp".
With both of these above 1, "data" is left to the compiler, too: the step is then that
of one device, on arrays that lie on many.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sam_jax.training import flat_state, parallel, partition
from sam_jax.training.parallel import AXIS

Tree = Any
BATCH = (AXIS, "fsdp")


@dataclasses.dataclass(frozen=True)
class Layout(parallel.Layout):
    """Where a run with sharded parameters computes.

    mesh: of axes "data", "fsdp" and "tensor". rule: how leaves are sharded.
    """

    mesh: Mesh
    rule: partition.Rule

    @property
    def width(self) -> int:
        # With two axes left to it inside a mapped one, XLA (jaxlib 0.10.2) aborts the
        # process at a gather, such as that of an embedding.
        sharded = [axis for axis in partition.AXES if self.mesh.shape[axis] > 1]
        return self.mesh.shape[AXIS] if len(sharded) < 2 else 1

    @property
    def shares(self) -> int:
        return self.mesh.shape[AXIS] * self.mesh.shape["fsdp"]

    def map(
        self,
        function: Callable,
        *,
        rows: tuple[int, ...] = (),
        gives_rows: bool = False,
        donate: tuple[int, ...] = (),
    ) -> Callable:
        def run(*args: Any) -> Any:
            received = self._over_data(function, rows, gives_rows)(*args)
            if gives_rows:
                pinned = jax.tree.map(lambda _: self._sharding(BATCH), received)
            else:
                pinned = self.shardings(received)
            return jax.lax.with_sharding_constraint(received, pinned)

        return jax.jit(run, donate_argnums=donate)

    def _over_data(
        self, function: Callable, rows: tuple[int, ...], gives_rows: bool
    ) -> Callable:
        """The per-device function, mapped over the axis "data" alone."""
        here = functools.partial(self._over_fsdp, function, rows)
        if self.axis_name is None:
            return here

        def mapped(*args: Any) -> Any:
            split, same = PartitionSpec(AXIS), PartitionSpec()
            return jax.shard_map(
                here,
                mesh=self.mesh,
                in_specs=tuple(split if i in rows else same for i in range(len(args))),
                out_specs=split if gives_rows else same,
                axis_names={AXIS},
                # As pmap has it: the gradient that a device takes is its own.
                check_vma=False,
            )(*args)

        return mapped

    def _over_fsdp(self, function: Callable, rows: tuple[int, ...], *args: Any) -> Any:
        """Runs a function, its rows and what its layers make of them over "fsdp".

        The compiler is told so after every layer: it might otherwise follow the
        parameters, and have every device work on the whole batch. With three axes above
        1 it is told as well that no layer's results, in groups of examples neither, are
        split by their features: XLA (jaxlib 0.10.2) makes wrong gradients of networks
        of convolutions where it splits these, and the batch over two axes.
        """
        if not rows or self.shares == self.width:
            return function(*args)
        count = np.shape(args[rows[0]])[0]
        whole = min(self.mesh.shape.values()) > 1
        feature = None if whole else PartitionSpec.UNCONSTRAINED

        def pin(x: Any) -> Any:
            features = [feature] * (np.ndim(x) - 1)
            if np.ndim(x) == 0 or (np.shape(x)[0] != count and not whole):
                return x
            if self.axis_name is not None:
                spec: Any = PartitionSpec("fsdp", *features)
            elif np.shape(x)[0] == count:
                spec = self._sharding(BATCH, *features)
            else:
                spec = self._sharding(PartitionSpec.UNCONSTRAINED, *features)
            return jax.lax.with_sharding_constraint(x, spec)

        def after_layer(
            layer: Callable, given: tuple, named: dict, context: Any
        ) -> Any:
            del context
            return jax.tree.map(pin, layer(*given, **named))

        with nn.intercept_methods(after_layer):
            return function(*(pin(x) if i in rows else x for i, x in enumerate(args)))

    def spread(self, tree: Tree) -> Tree:
        return tree

    def shapes(self, tree: Tree) -> Tree:
        # With their shardings, so that nothing is traced again for the arrays.
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding
            ),
            tree,
            self.shardings(tree),
        )

    def create(self, function: Callable[[], Tree]) -> Tree:
        made = jax.eval_shape(function)
        return jax.jit(function, out_shardings=self.shardings(made))()

    def place(self, tree: Tree) -> Tree:
        return jax.tree.map(_put, tree, self.shardings(tree))

    def replicate(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: _put(leaf, self._sharding()), tree)

    def fetch(self, tree: Tree) -> Tree:
        if jax.process_count() > 1:
            tree = self._gather(tree)
        return jax.device_get(tree)

    @functools.cached_property
    def _gather(self) -> Callable[[Tree], Tree]:
        return jax.jit(lambda tree: tree, out_shardings=self._sharding())

    def snapshot(self, tree: Tree) -> dict[str, Any]:
        # Elsewhere orbax waits until they are in host memory, but on CPU they are there
        # already, and the next step takes their memory over.
        on_cpu = self.local[0].platform == "cpu"
        return flat_state.by_name(self._copy(tree) if on_cpu else tree)

    @functools.cached_property
    def _copy(self) -> Callable[[Tree], Tree]:
        return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def sharding(self, name: str, shape: tuple[int, ...]) -> NamedSharding:
        return NamedSharding(self.mesh, self.rule.spec(name, shape))

    def shardings(self, tree: Tree) -> Tree:
        """The sharding of every leaf of a tree, by the rule."""
        return jax.tree.map_with_path(
            lambda path, leaf: self.sharding(
                flat_state.leaf_name(path), np.shape(leaf)
            ),
            tree,
        )

    def split(self, batch: np.ndarray) -> Any:
        return batch if self.count == 1 else _put(batch, self._sharding(BATCH))

    @functools.cached_property
    def greatest(self) -> Callable[[int], Any]:
        one_each = self._sharding(tuple(self.mesh.axis_names))
        largest = jax.jit(jnp.max, out_shardings=self._sharding())

        def ask(value: int) -> Any:
            own = np.array([value], np.int32)
            shape = (self.count,)
            return largest(jax.make_array_from_callback(shape, one_each, lambda _: own))

        return ask

    def _sharding(self, *axes: Any) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def layout(
    devices: int, data: int, fsdp: int, tensor: int, min_size: int, rules: tuple
) -> Layout:
    """Chooses the devices of a run, as `parallel.layout`, and their mesh.

    Args:
      devices: how many; 0 for all.
      data, fsdp, tensor: devices along each axis of the mesh; data=0 for all that the
        other two leave.
      min_size, rules: see `partition.Rule`; the latter as `partition.parse` takes them.

    Raises: ValueError for a mesh that has not as many places as there are devices.
    """
    plain = parallel.layout(devices)
    inner = fsdp * tensor
    if plain.count % inner or (data and data * inner != plain.count):
        raise ValueError(
            f"Received parallel.data={data}, parallel.fsdp={fsdp}, parallel.tensor="
            f"{tensor} for {plain.count} devices; their product must be the number of "
            "devices (data=0 takes what the other two leave, which must divide it)."
        )
    shape = (plain.count // inner, fsdp, tensor)
    mesh = jax.make_mesh(
        shape,
        (AXIS, *partition.AXES),
        axis_types=(AxisType.Auto,) * 3,
        devices=None if plain.count == jax.device_count() else plain.local,
    )
    rule = partition.Rule((fsdp, tensor), min_size, partition.parse(rules))
    return Layout(plain.count, plain.local, mesh, rule)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array, equal on all processes, in its places; one that lies there as it is."""
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])
