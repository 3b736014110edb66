"""Claims that one method is better than another, or as good: paired over seeds.

Of methods as `comparison` has them, each at its rho by validation.
"""

import dataclasses

import numpy as np

from experiments.harness import comparison
from experiments.harness.claims import Arrays, Claim


def lower(
    text: str,
    source: str,
    paper: str | None,
    arrays: Arrays,
    better: str,
    worse: str,
    at: str = "best",
    *,
    margin: float = 0.0,
) -> Claim:
    """The claim that the error of one method is below that of another.

    Args:
      better, worse: keys of the methods, each at its rho by validation.
      at: "best", the epoch by validation, or "last"; the other one is told beside it.
      margin: by how much, >= 0; or, if negative, how much above it may be.
    """
    keys = better, worse
    errors = [comparison.chosen(arrays, key, at) for key in keys]
    claim = paired(
        text, source, paper, *errors, margin=margin, rho=comparison.radii(arrays, keys)
    )
    other = "last" if at == "best" else "best"
    beside = [comparison.spread(comparison.chosen(arrays, key, other)) for key in keys]
    words = f"{claim.measured} ({other}: {beside[0]}, {beside[1]})"
    return dataclasses.replace(claim, measured=words)


def paired(
    text: str,
    source: str,
    paper: str | None,
    better: np.ndarray,
    worse: np.ndarray,
    *,
    margin: float = 0.0,
    rho: str | None = None,
) -> Claim:
    """The claim that the errors `better` are below `worse`, by the 95% interval of the
    mean of their differences, in points.

    Args:
      better, worse: errors of the same seeds, f[S].
      margin: by how much, >= 0; or, if negative, how much above they may be.
    """
    measured = f"{comparison.spread(better)} against {comparison.spread(worse)}"
    differences = 100 * (np.asarray(better) - np.asarray(worse))
    high = -100 * margin + 0.0  # of no margin 0, not -0
    return Claim.mean(
        f"{text} (%)", source, paper, differences, high=high, measured=measured, rho=rho
    )


def alike(
    text: str,
    source: str,
    paper: str | None,
    arrays: Arrays,
    pair: tuple[str, str],
    at: str = "best",
    *,
    within: float,
) -> Claim:
    """The claim that two methods have the same error.

    Args:
      pair: keys of the methods. within: points, above 0, that their errors may differ.
      at: as in `lower`.
    """
    first, second = (comparison.chosen(arrays, key, at) for key in pair)
    gap = 100 * (first - second)
    words = f"{comparison.spread(first)} and {comparison.spread(second)}"
    return Claim.mean(
        f"{text}, {at} epoch (points)",
        source,
        paper,
        gap,
        low=-within,
        high=within,
        measured=f"{gap.mean():.2f} ({words})",
        rho=comparison.radii(arrays, pair),
    )
