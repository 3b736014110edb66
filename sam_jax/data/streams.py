"""Random numbers of the data pipeline: the same on every platform, for ever.

NumPy promises to keep the raw words of a bit generator (NEP 19), but not what
`Generator.permutation` and its like make of them. So the draws that decide which
examples are noisy, held out or in a batch are made from raw words here.
"""

import enum
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64

from sam_jax import checks


class Purpose(enum.IntEnum):
    """What a draw is for: one seed gives independent numbers for each."""

    NOISE = 0
    VALIDATION = 1
    ORDER = 2
    TEST = 3
    GAUSSIANS = 4
    ASCENT_ORDER = 5
    SUBSET = 6
    EVALUATION = 7


def sequence(seed: Any, purpose: Purpose, *path: int) -> np.random.SeedSequence:
    """The seed of one purpose; `path` tells its draws apart, such as the epoch."""
    seed = checks.integer("seed", seed, 0)
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *path))


def words(n: int, seed: Any, purpose: Purpose, *path: int) -> UInt64[np.ndarray, " n"]:
    """n independent words of 64 random bits."""
    generator = np.random.Philox(sequence(seed, purpose, *path))
    return generator.random_raw(n)


def permutation(
    n: int, seed: Any, purpose: Purpose, *path: int
) -> Int[np.ndarray, " n"]:
    """A uniformly random order of 0 .. n-1 (two words are equal once in 2^64 / n^2)."""
    return np.argsort(words(n, seed, purpose, *path), kind="stable")


def integers(
    n: int, high: int, seed: Any, purpose: Purpose, *path: int
) -> Int[np.ndarray, " n"]:
    """n uniformly random integers of [0, high), up to a bias of high / 2^64."""
    drawn = words(n, seed, purpose, *path) % np.uint64(high)
    return drawn.astype(np.int64)
