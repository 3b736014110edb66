"""How arrays lie on a mesh whose axes are Explicit, and operations that keep it so.

With `jax.make_mesh`'s default axis types the type of an array says along which mesh
axes it is split, and JAX refuses operations whose result could lie in several ways.
The operations here say how. Arrays without such a mesh are treated as `jax.numpy` does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sam_jax.ops import compat

Tree = Any
Axes = tuple[str, ...]  # the mesh axes along which one dimension of an array is split


def axes(value: Any) -> tuple[Axes, ...]:
    """The Explicit mesh axes along which each dimension of an array is split.

    Args:
      value: an array, or its type.
    """
    spec = compat.type_of(value).sharding.spec
    return tuple((names,) if isinstance(names, str) else names or () for names in spec)


def split(x: jax.Array, count: int, *, within: bool = True) -> jax.Array:
    """[B, ...] -> [count, B / count, ...].

    Mesh axes along which the B entries are split are those of the `count` pieces, as
    far as they divide their number, and then those of the entries of a piece. An axis
    that divides neither is gathered.

    Args:
      within: whether the entries of a piece may be split.
    """
    shape = (int(count), jnp.shape(x)[0] // int(count), *jnp.shape(x)[1:])
    first, *rest = axes(x)
    if not first:
        return jnp.reshape(x, shape)
    sizes = compat.type_of(x).sharding.mesh.shape
    outer: Axes = ()
    inner: Axes = ()
    for axis in first:
        if not inner and _divides(sizes, (*outer, axis), shape[0]):
            outer = (*outer, axis)
        elif within and _divides(sizes, (*inner, axis), shape[1]):
            inner = (*inner, axis)
    return lax.reshape(x, shape, out_sharding=_along(x, outer, inner, *rest))


def join(x: jax.Array) -> jax.Array:
    """[count, size, ...] -> [count * size, ...]: the inverse of `split`."""
    shape = (x.shape[0] * x.shape[1], *x.shape[2:])
    outer, inner, *rest = axes(x)
    if not outer and not inner:
        return jnp.reshape(x, shape)
    return lax.reshape(x, shape, out_sharding=_along(x, (*outer, *inner), *rest))


def zeros(like: Any, lead: Sequence[int] = ()) -> jax.Array:
    """Zeros that lie as an array of this type does; under `jax.shard_map` each
    device's own, if that array is.

    Args:
      lead: sizes of further axes in front.
    """
    names = (*(() for _ in lead), *axes(like))
    where = {"out_sharding": _along(like, *names)} if any(names) else {}
    value = jnp.zeros((*lead, *like.shape), like.dtype, **where)
    return compat.varying(value, compat.varying_axes(like))


def like(x: jax.Array, other: Any) -> jax.Array:
    """x, split as an array of the same shape is."""
    names = axes(other)
    if not any(names) and not any(axes(x)):
        return x
    return jax.sharding.reshard(x, _along(other, *names))


def product(
    a: jax.Array,
    b: jax.Array,
    numbers: lax.DotDimensionNumbers,
    **options: Any,
) -> jax.Array:
    """`lax.dot_general`, also where what is summed over is split over devices. The
    result is split as the other dimensions of a and b are.
    """
    of_a, of_b = axes(a), axes(b)
    if not any(of_a) and not any(of_b):
        return lax.dot_general(a, b, numbers, **options)
    (a_summed, b_summed), (a_blocks, b_blocks) = numbers
    blocks = [of_a[i] or of_b[j] for i, j in zip(a_blocks, b_blocks, strict=True)]
    free = [
        *(names for i, names in enumerate(of_a) if i not in (*a_summed, *a_blocks)),
        *(names for i, names in enumerate(of_b) if i not in (*b_summed, *b_blocks)),
    ]
    used: set[str] = set()
    out = []
    for names in (*blocks, *free):  # a mesh axis can split one dimension alone
        out.append(() if used & {*names} else names)
        used |= {*names}
    return lax.dot_general(
        a, b, numbers, out_sharding=_along(a if any(of_a) else b, *out), **options
    )


def types_of_one(pieces: Tree) -> Tree:
    """The types that the leaves of one piece have, from arrays [count, ...] of all:
    shape, dtype and layout, without cutting out a piece.
    """
    return _types(lambda seen: jax.vmap(seen), pieces)


def types_of_results(function: Callable, *args: Any) -> Tree:
    """The types of what a function returns: shape, dtype and layout."""
    return _types(lambda seen: lambda *args: seen(function(*args)), *args)


def _types(around: Callable, *args: Any) -> Tree:
    found = []

    def seen(tree: Tree) -> None:
        found.append(jax.tree.map(compat.type_of, tree))

    jax.eval_shape(around(seen), *args)
    return found[-1]


def _divides(sizes: Mapping[str, int], names: Axes, number: int) -> bool:
    return number % math.prod(sizes[name] for name in names) == 0


def _along(like: Any, *names: Axes) -> jax.sharding.NamedSharding:
    """Split along these axes of an array's mesh, an entry for each dimension."""
    spec = jax.sharding.PartitionSpec(*(name or None for name in names))
    return jax.sharding.NamedSharding(compat.type_of(like).sharding.mesh, spec)
