"""A training state as named arrays in host memory: what a checkpoint holds."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sam_jax.training.errors import CheckpointError

Arrays = dict[str, np.ndarray]


def flatten(tree: Any) -> Arrays:
    """A tree as {"params.dense.kernel": array, ...}: copies in host memory."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.array(leaf) for path, leaf in leaves}


def unflatten(template: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Puts arrays of `flatten` back into a tree like `template`.

    Raises: CheckpointError if names, shapes or dtypes are not those of the template.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [_name(path) for path, _ in leaves]
    if set(names) != set(arrays):
        odd = sorted(set(names) ^ set(arrays))
        raise CheckpointError(
            f"The checkpoint and the configured run differ in {', '.join(odd[:4])}; "
            "use the model and optimiser the checkpoint was made with."
        )
    for name, (_, leaf) in zip(names, leaves, strict=True):
        received, expected = arrays[name], jax.eval_shape(lambda x=leaf: x)
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


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
