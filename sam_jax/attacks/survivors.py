"""Only images that still resist go on, in batches of few sizes.

A compiled attack has one batch size. The images left are packed into batches of the
full size, and the last one is padded to the least of a few sizes that holds it, so that
nothing is compiled anew while their number shrinks.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sam_jax.attacks import geometry, model
from sam_jax.attacks.geometry import Images
from sam_jax.attacks.objectives import Labels

HALVINGS = 3
LEAST = 32
Tree = Any
Rows = Int[np.ndarray, " rows"]
# (run, rows of the images to attack, key) -> points, in the ball
Attack = Callable[[int, Rows, Array], Images]


def sizes(batch_size: int) -> list[int]:
    """The batch sizes in use: a half, a quarter and an eighth beside the full one.

    None below LEAST, where a smaller batch would not be faster.
    """
    halved = {-(-batch_size // 2**k) for k in range(1, HALVINGS + 1)}
    return sorted({size for size in halved if size >= LEAST} | {batch_size})


def padded(count: int, batch_size: int) -> Rows:
    """Positions 0..count-1, repeated from the front up to one of `sizes`."""
    fitting = [size for size in sizes(batch_size) if size >= count]
    return np.resize(np.arange(count), min(fitting))


def batches(indices: Rows, batch_size: int) -> Iterator[tuple[Rows, int]]:
    """Batches of indices with the number of those that are no padding."""
    for first in range(0, len(indices), batch_size):
        batch = indices[first : first + batch_size]
        yield batch[padded(len(batch), batch_size)], len(batch)


def attack_survivors(
    attack: Attack,
    runs: int,
    predict: model.Predict,
    images: Images,
    labels: Labels,
    key: Array,
) -> Images:
    """Runs an attack several times, each on the images that resisted so far.

    Args:
      attack: (run, rows of images, key) -> points of these.
      runs: 0, 1, ...: restarts or targets.

    Returns: of every image the point of largest margin in a fresh pass, the image
      itself included; it misleads if any run misled.
    """
    batch_size = len(images)
    # On the host: an array operation on a device compiles for every number of rows.
    best, (resists, margins) = np.array(images), _judge(predict, images, labels, key)
    for run in range(runs):
        if not resists.any():
            break
        left = np.flatnonzero(resists)
        rows = left[padded(len(left), batch_size)]
        run_key = jax.random.fold_in(key, run)
        points = attack(run, rows, run_key)
        correct, reached = _judge(predict, points, labels[rows], run_key)
        better = np.flatnonzero((~correct | (reached > margins[rows]))[: len(left)])
        best[rows[better]] = np.asarray(points)[better]
        resists[rows[better]] = correct[better]
        margins[rows[better]] = reached[better]
    return jnp.asarray(best)


def _judge(
    predict: model.Predict, images: Images, labels: Labels, key: Array
) -> tuple[Bool[np.ndarray, " batch"], Float[np.ndarray, " batch"]]:
    found = model.judge(predict, images, labels, key)
    correct, margins = (np.array(values) for values in found)
    return correct, margins


def select(condition: Bool[Array, " batch"], new: Tree, old: Tree) -> Tree:
    """Rows of `new` where the condition holds, else of `old`."""
    return jax.tree.map(
        lambda a, b: jnp.where(geometry.wide(condition, a), a, b), new, old
    )
