"""What an experiment finds: arrays, and the paper's claims against them."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness import statistics
from experiments.harness.statistics import (
    CONTRARY,
    HOLDS,
    LEVEL,
    VERDICTS,
    Interval,
)

Arrays = Mapping[str, np.ndarray]
Value = float | int | str | None
# Of the paper, of a run or derivation of our own, a question or goal of ours or of
# others, and of what must come out if method and code are right.
KINDS = ("paper", "reference", "target", "control")
CONTROLS = ("control", "erratum", "closed", "by", "early")  # first words of a source
# What stands in no statement as it is printed: the expected value is our own.
DERIVED = ("corrected", "by symmetry", "beyond")
STATEMENTS = ("Fig.", "Table", "Prop.", "Lemma", "Fact", "Sec.", "App.", "Eq.", "Thm.")
MOST = "> 1/2"  # of the seeds


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the paper, or of its correction, against a measurement.

    claim: the statement, in words that say what "holds" confirms.
    source: where it stands, "Fig. 4" or "Prop. 11, corrected"; "reference run" for a
      number of a run of our own, "target" for a goal of ours.
    expected: the value printed or derived there, None where there is none.
    measured: the value of this run.
    tolerance: what `measured` may be and still confirm the claim, a number or words.
    verdict: one of `statistics.VERDICTS`.
    interval: what is decided by, at LEVEL; None where nothing is random.
    seeds: how many it is over. rho: the radii chosen, in words.
    """

    claim: str
    source: str
    expected: Value
    measured: Value
    tolerance: Value
    verdict: str
    interval: Interval | None = None
    seeds: int | None = None
    rho: str | None = None

    @property
    def kind(self) -> str:
        """One of KINDS, by the source."""
        return kind_of(self.source)

    @property
    def holds(self) -> bool:
        """Whether the measurement confirms the claim."""
        return self.verdict == HOLDS

    @classmethod
    def decided(
        cls,
        claim: str,
        source: str,
        expected: Value,
        measured: Value,
        tolerance: Value,
        holds: Any,
        **others: Any,
    ) -> "Claim":
        """A claim on what is not random: it holds, or the contrary does."""
        verdict = HOLDS if holds else CONTRARY
        return cls(claim, source, expected, measured, tolerance, verdict, **others)

    @classmethod
    def close(
        cls,
        claim: str,
        source: str,
        expected: float,
        measured: float,
        tolerance: float,
    ) -> "Claim":
        """A claim that holds if |measured - expected| <= tolerance."""
        holds = abs(measured - expected) <= tolerance
        return cls.decided(claim, source, expected, measured, tolerance, holds)

    @classmethod
    def below(
        cls, claim: str, source: str, measured: np.ndarray, bound: np.ndarray
    ) -> "Claim":
        """A claim that a quantity stays below its bound, by the greatest ratio."""
        ratio = float(np.max(measured / bound))
        text = f"{claim}: greatest ratio to the bound"
        return cls.decided(text, source, "<= 1", ratio, "<= 1", ratio <= 1 + 1e-9)

    @classmethod
    def share(cls, claim: str, source: str, holding: np.ndarray) -> "Claim":
        """A claim that is true on most seeds: on more than half of all there are.

        Args:
          holding: bool, one a seed.
        """
        true, count = int(np.sum(holding)), len(holding)
        interval = statistics.of_share(true, count)
        verdict = statistics.verdict(interval, 0.5, math.inf)
        text = f"{claim}: share of seeds"
        share = true / count
        return cls(text, source, 1.0, share, MOST, verdict, interval, count)

    @classmethod
    def every(cls, claim: str, source: str, holding: np.ndarray) -> "Claim":
        """A claim that is true on every seed there is, as a theorem has to be.

        Args:
          holding: bool, one a seed.
        """
        share, count = float(np.mean(holding)), len(holding)
        text = f"{claim}: share of seeds"
        holds = share == 1
        return cls.decided(text, source, 1.0, share, "all", holds, seeds=count)

    @classmethod
    def mean(
        cls,
        claim: str,
        source: str,
        expected: Value,
        values: np.ndarray,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        measured: Value = None,
        rho: str | None = None,
    ) -> "Claim":
        """A claim that a mean over all seeds there are lies within (low, high).

        Args:
          values: one a seed. measured: words in place of their mean.
        """
        interval = statistics.of_mean(values)
        verdict = statistics.verdict(interval, low, high)
        return cls(
            claim,
            source,
            expected,
            float(np.mean(values)) if measured is None else measured,
            range_of(low, high),
            verdict,
            interval,
            len(values),
            rho,
        )

    @classmethod
    def agrees(
        cls,
        claim: str,
        source: str,
        expected: float,
        values: np.ndarray,
        *,
        within: float,
    ) -> "Claim":
        """A claim that a mean over seeds is the expected one, to `within` of it."""
        low, high = expected - within, expected + within
        return cls.mean(claim, source, expected, values, low=low, high=high)


def kind_of(source: str) -> str:
    """One of KINDS, by where a statement stands."""
    if source.startswith(STATEMENTS):
        return "paper"
    first = source.split(" ")[0]
    if first in CONTROLS:
        return "control"
    return first if first in KINDS else "target"


def is_share(claim: Mapping[str, Any]) -> bool:
    """Whether a claim, as JSON has it, is on a share of seeds."""
    return claim.get("tolerance") == MOST


def range_of(low: float, high: float) -> str:
    """The numbers within (low, high), in words: "> 0", "2 to 3"."""
    if math.isinf(low):
        return f"< {high:.4g}"
    return f"> {low:.4g}" if math.isinf(high) else f"{low:.4g} to {high:.4g}"


def plain(claim: Claim, command: str) -> dict[str, Any]:
    """A claim as JSON values; NumPy and JAX scalars become Python's.

    Args:
      command: that measures it.
    """
    found = {
        key: value.item() if hasattr(value, "item") else value
        for key, value in dataclasses.asdict(claim).items()
    }
    expected = found.pop("expected")
    paper = claim.kind == "paper" and not claim.source.endswith(DERIVED)
    finite = found["interval"] is not None and all(map(math.isfinite, claim.interval))
    return {
        "claim": found.pop("claim"),
        "source": found.pop("source"),
        "kind": claim.kind,
        "paper": expected if paper else None,
        "reference": None if paper else expected,
        **found,
        "interval": list(claim.interval) if finite else None,
        "command": command,
    }


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """A file of claims. Those of older versions said of each only whether it holds.

    Raises: ValueError for what is no list of claims.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); run it again.") from None
    if not isinstance(found, list) or not all(map(_is_claim, found)):
        raise ValueError(f"{path} holds no list of claims; run it again.")
    for claim in found:
        if "holds" in claim:
            claim["verdict"] = HOLDS if claim.pop("holds") else CONTRARY
            claim["kind"] = kind_of(claim["source"])
    return found


def _is_claim(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    words = all(isinstance(found.get(key), str) for key in ("claim", "source"))
    judged = found.get("kind") in KINDS and found.get("verdict") in VERDICTS
    measured = {"measured", "tolerance"} <= found.keys()
    return words and measured and (judged or isinstance(found.get("holds"), bool))


HEADER = ["claim", "source", "expected", "measured", f"{LEVEL:.0%} interval", "seeds"]
HEADER += ["rho", "verdict"]
REPORTED = [*HEADER[:-1], "scale", HEADER[-1]]


def table(claims: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Claims as rows of text, in the columns of HEADER."""
    return [
        [
            claim["claim"],
            claim["source"],
            _expected(claim),
            show(claim["measured"]),
            " to ".join(map(show, claim.get("interval") or ["-"])),
            show(claim.get("seeds")),
            claim.get("rho") or "-",
            claim["verdict"],
        ]
        for claim in claims
    ]


def _expected(claim: Mapping[str, Any]) -> str:
    """What the paper prints, or else a run of our own or what the claim allows."""
    if claim.get("paper") is not None:
        return f"{show(claim['paper'])} ({show(claim['tolerance'])})"
    if claim.get("reference") is not None:
        return f"ours {show(claim['reference'])} ({show(claim['tolerance'])})"
    return show(claim["tolerance"])


def count(claims: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """kind -> verdict -> how many claims."""
    found = {kind: dict.fromkeys(VERDICTS, 0) for kind in KINDS}
    for claim in claims:
        found[claim["kind"]][claim["verdict"]] += 1
    return found


def show(value: Value) -> str:
    """A number to four digits, '-' for None."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"
