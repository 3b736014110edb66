"""What a few seeds can say: intervals, and verdicts that can be 'undecided'."""

import math

import numpy as np
from scipy import special, stats

LEVEL = 0.95
RESAMPLES = 500
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


def of_rank_correlation(
    first: np.ndarray, second: np.ndarray
) -> tuple[float, Interval]:
    """Kendall's tau of all entries, and its interval by a bootstrap over rows.

    Args:
      first, second: f[rows, seeds], NaN for what is left out. The seeds of a row are
        drawn together, since they are of one method and no independent evidence.

    Returns: tau, 0 where all entries are equal; and percentiles, all of [-1, 1] for a
      single row.
    """

    def tau(rows: np.ndarray) -> float:
        pair = first[rows].ravel(), second[rows].ravel()
        found = stats.kendalltau(*pair, nan_policy="omit").statistic
        return float(found) if np.isfinite(found) else 0.0

    rows = np.arange(len(first))
    if len(rows) < 2:
        return tau(rows), (-1.0, 1.0)
    drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile([tau(some) for some in drawn], [tail, 100 - tail])
    return tau(rows), (float(low), float(high))


def verdict(interval: Interval, low: float, high: float) -> str:
    """Whether a quantity lies within (low, high), from its interval.

    It holds if the whole interval does, is contrary if none of it does, and undecided
    otherwise: a tie is no win.
    """
    if low < interval[0] and interval[1] < high:
        return HOLDS
    return CONTRARY if interval[1] < low or high < interval[0] else UNDECIDED
