"""A training state as named arrays: what a checkpoint holds.

They lie in host memory, or, of a state with sharded parameters, on the devices.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.training.errors import CheckpointError

Arrays = dict[str, Any]  # of np.ndarray or jax.Array
WORDS = 2**20  # looked at at once on the host
SPREAD = 2654435761  # 2^32 divided by the golden ratio: it spreads indices


def flatten(tree: Any) -> Arrays:
    """A tree as {"params.dense.kernel": array, ...}: copies in host memory."""
    return {name: np.array(leaf) for name, leaf in by_name(tree).items()}


def by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a tree, as they are, by their names in a checkpoint."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {leaf_name(path): leaf for path, leaf in leaves}


def unflatten(template: Any, arrays: Mapping[str, Any]) -> Any:
    """Puts arrays of `flatten` back into a tree like `template`.

    Raises: CheckpointError if names, shapes or dtypes are not those of the template.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [leaf_name(path) for path, _ in leaves]
    if set(names) != set(arrays):
        odd = sorted(set(names) ^ set(arrays))
        raise CheckpointError(
            f"The checkpoint and the configured run differ in {', '.join(odd[:4])}; "
            "use the model and optimiser the checkpoint was made with."
        )
    for name, (_, leaf) in zip(names, leaves, strict=True):
        received, expected = arrays[name], leaf
        if (received.shape, received.dtype) != (expected.shape, expected.dtype):
            raise CheckpointError(
                f"The checkpoint holds {name} as {received.dtype}{received.shape}, the "
                f"configured run as {expected.dtype}{expected.shape}; use the model "
                "and data the checkpoint was made with."
            )
    return jax.tree.unflatten(structure, [arrays[name] for name in names])


def checksum(arrays: Arrays) -> int:
    """CRC-32 over names, dtypes, shapes and bytes, in the order of the names."""
    total = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        head = f"{name}{array.dtype}{array.shape}".encode()
        total = zlib.crc32(array.view(np.uint8).data, zlib.crc32(head, total))
    return total


def digest(arrays: Arrays) -> int:
    """A 32-bit digest of the same, which arrays sharded in any way have in common.

    Of every array the sum of w_i x_i modulo 2^32, with x_i its 32-bit words in order
    and w_i an odd number made of i: integers add up to the same in any order. Any
    change of a single word changes it.
    """
    on_device = {n: a for n, a in arrays.items() if isinstance(a, jax.Array)}
    sums = jax.device_get(_device_sums(on_device)) if on_device else {}
    total = 0
    for name in sorted(arrays):
        array = arrays[name]
        found = sums[name] if name in sums else _host_sum(array)
        text = f"{name}{array.dtype}{tuple(array.shape)}{int(found)}"
        total = zlib.crc32(text.encode(), total)
    return total


@jax.jit
def _device_sums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: _device_sum(array) for name, array in arrays.items()}


def _device_sum(array: jax.Array) -> jax.Array:
    """On the devices, where the array lies: indices are made in its own shape."""
    size = array.dtype.itemsize
    if array.dtype == bool:
        words = array.astype(jnp.uint32)
    elif size == 8:
        words = jax.lax.bitcast_convert_type(array, jnp.uint32)  # [..., 2]
    else:
        bits = jnp.dtype(f"uint{8 * size}")
        words = jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)
    index, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in range(words.ndim)[::-1]:
        place = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        index += place * jnp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(words * _weights(index), dtype=jnp.uint32)


def _host_sum(array: np.ndarray) -> int:
    """The same in NumPy, a part after the other."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    width = min(array.dtype.itemsize, 4)
    words, total = flat.view(f"uint{8 * width}"), 0
    for start in range(0, len(words), WORDS):
        part = words[start : start + WORDS].astype(np.uint32)
        index = np.arange(start, start + len(part)).astype(np.uint32)
        total += int(np.sum(part * _weights(index), dtype=np.uint32))
    return total % 2**32


def _weights(index: Any) -> Any:
    return (index * np.uint32(SPREAD)) | np.uint32(1)


def leaf_name(path: Any) -> str:
    """What a leaf is called in a checkpoint, from its path in the tree."""
    return jax.tree_util.keystr(path, simple=True, separator=".")
