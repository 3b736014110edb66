"""What an experiment finds: arrays, and the paper's claims against them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Value = float | int | str | None


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the paper, or of its correction, against a measurement.

    claim: the statement, in words that say what `holds` confirms or denies.
    source: where it stands, "Fig. 4" or "Prop. 11, corrected".
    paper: the value printed or derived there, or that of an independent run where the
      source says "reference run"; None where there is none.
    measured: the value of this run.
    tolerance: what `measured` may be and still confirm the claim, a number or words.
    holds: whether the measurement confirms the claim.
    """

    claim: str
    source: str
    paper: Value
    measured: Value
    tolerance: Value
    holds: bool

    @classmethod
    def close(
        cls, claim: str, source: str, paper: float, measured: float, tolerance: float
    ) -> "Claim":
        """A claim that holds if |measured - paper| <= tolerance."""
        holds = abs(measured - paper) <= tolerance
        return cls(claim, source, paper, measured, tolerance, holds)

    @classmethod
    def below(
        cls, claim: str, source: str, measured: np.ndarray, bound: np.ndarray
    ) -> "Claim":
        """A claim that a quantity stays below its bound, by the greatest ratio."""
        ratio = float(np.max(measured / bound))
        text = f"{claim}: greatest ratio to the bound"
        return cls(text, source, "<= 1", ratio, "<= 1", ratio <= 1 + 1e-9)

    @classmethod
    def share(cls, claim: str, source: str, holding: np.ndarray) -> "Claim":
        """A claim on every seed, which holds if it is true on 95% of them.

        Args:
          holding: bool, one a seed.
        """
        share = np.mean(holding)
        return cls(claim, source, 1.0, share, ">= 0.95 of seeds", share >= 0.95)

    @classmethod
    def mean(
        cls,
        claim: str,
        source: str,
        paper: float,
        values: np.ndarray,
        *,
        seeds: float = 10,
        slack: float = 0.0,
    ) -> "Claim":
        """A claim that holds if the mean of `values` agrees with one of other seeds.

        Four standard errors of the difference of two means are allowed.

        Args:
          values: one a seed. seeds: how many `paper` is the mean of; inf if exact.
          slack: added to the tolerance, such as the rounding of `paper`.
        """
        spread = values.std(ddof=1) * (1 / seeds + 1 / len(values)) ** 0.5
        return cls.close(claim, source, paper, values.mean(), 4 * spread + slack)


def plain(claim: Claim) -> dict[str, Any]:
    """A claim as JSON values; NumPy and JAX scalars become Python's."""
    fields = dataclasses.asdict(claim)
    return {
        key: value.item() if hasattr(value, "item") else value
        for key, value in fields.items()
    }


HEADER = ["claim", "source", "paper", "measured", "tolerance", "verdict"]


def table(claims: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Claims as rows of text, in the columns of HEADER."""
    return [
        [
            claim["claim"],
            claim["source"],
            *(show(claim[key]) for key in ("paper", "measured", "tolerance")),
            "holds" if claim["holds"] else "does not hold",
        ]
        for claim in claims
    ]


def show(value: Value) -> str:
    """A number to four digits, '-' for None."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
