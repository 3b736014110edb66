"""What a few seeds can say: intervals, and verdicts that can be 'undecided'."""

import math

import numpy as np
from scipy import special

LEVEL = 0.95
HOLDS, CONTRARY, UNDECIDED, NEEDS_GPU = "holds", "contrary", "undecided", "needs a GPU"
VERDICTS = (HOLDS, CONTRARY, UNDECIDED, NEEDS_GPU)
Interval = tuple[float, float]


def of_mean(values: np.ndarray) -> Interval:
    """Student's t interval of a mean over seeds; all numbers for a single seed.

    For paired differences of two methods on the same seeds it is that of the paired t
    test. It takes the differences for normal.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return -math.inf, math.inf
    quantile = special.stdtrit(count - 1, (1 + LEVEL) / 2)
    reach = float(quantile * np.std(values, ddof=1) / math.sqrt(count))
    return mean - reach, mean + reach


def of_share(true: int, count: int) -> Interval:
    """The exact interval of a share (Clopper & Pearson 1934)."""
    tail = (1 - LEVEL) / 2
    low = special.betaincinv(true, count - true + 1, tail) if true else 0.0
    high = special.betaincinv(true + 1, count - true, 1 - tail) if true < count else 1.0
    return float(low), float(high)


def verdict(interval: Interval, low: float, high: float) -> str:
    """Whether a quantity lies within (low, high), from its interval.

    It holds if the whole interval does, is contrary if none of it does, and undecided
    otherwise: a tie is no win.
    """
    if low < interval[0] and interval[1] < high:
        return HOLDS
    return CONTRARY if interval[1] < low or high < interval[0] else UNDECIDED
