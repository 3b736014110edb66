"""The order of the examples."""

from typing import Any

import numpy as np
from jaxtyping import Int32

from sam_jax import checks
from sam_jax.data import streams
from sam_jax.data.streams import Purpose


def epoch_batches(
    seed: Any, epoch: int, n: int, batch_size: int, *, to_ascend_on: bool = False
) -> Int32[np.ndarray, "steps batch"]:
    """Positions of the examples of each step of an epoch: a new random order each time.

    A function of (seed, epoch) alone, so a resumed run goes on with the batches that an
    uninterrupted one would have seen. The n % batch_size examples left over are another
    few in every epoch.

    Args:
      seed: integer >= 0. epoch: integer >= 0.
      n: number of examples. batch_size: at most n.
      to_ascend_on: the batches of a variant that ascends on batches of its own, in an
        order independent of the other.

    Raises: ValueError for what is out of range.
    """
    checks.integer("epoch", epoch, 0)
    checks.integer("n", n, 1)
    checks.integer("batch_size", batch_size, 1)
    if batch_size > n:
        raise ValueError(
            f"Received batch_size={batch_size} for {n} training examples; give at most "
            f"{n}."
        )
    purpose = Purpose.ASCENT_ORDER if to_ascend_on else Purpose.ORDER
    order = streams.permutation(n, seed, purpose, int(epoch))
    steps = n // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
