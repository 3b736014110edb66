"""Claims: when they hold."""

import json
import math

import numpy as np
import pytest

from experiments.harness import claims, statistics
from experiments.harness.claims import Claim


def test_close_decides_by_its_tolerance():
    assert Claim.close("", "", 1.0, 1.1, 0.2).holds
    assert not Claim.close("", "", 1.0, 1.3, 0.2).holds


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.4, math.inf, "holds"),
        (0.5, math.inf, "undecided"),
        (-math.inf, 4.6, "holds"),
        (-math.inf, 0.4, "contrary"),
        (4.6, math.inf, "contrary"),
        (0.0, 5.0, "holds"),
        (1.0, 5.0, "undecided"),
        (5.0, 6.0, "contrary"),
    ],
)
def test_a_mean_is_judged_by_its_interval(low, high, verdict):
    """2.5 +- 3.182 sqrt(5/3) / 2 = .446 to 4.554, t of three degrees at 97.5%."""
    values = np.array([1.0, 2.0, 3.0, 4.0])
    claim = Claim.mean("", "", None, values, low=low, high=high)
    assert claim.interval == pytest.approx((0.4457, 4.5543), abs=1e-4)
    assert claim.verdict == verdict
    assert (claim.measured, claim.seeds) == (2.5, 4)


def test_one_seed_and_ties_decide_nothing():
    assert Claim.mean("", "", None, np.array([5.0]), low=0).verdict == "undecided"
    assert Claim.mean("", "", None, np.zeros(5), low=0).verdict == "undecided"
    assert Claim.mean("", "", None, np.zeros(5), high=0).verdict == "undecided"


def test_the_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(1.0, 2.0, (4000, 5))
    covered = [low < 1.0 < high for low, high in map(statistics.of_mean, draws)]
    assert abs(np.mean(covered) - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


@pytest.mark.parametrize(
    ("true", "count", "low", "high"),
    [(10, 10, 0.6915, 1.0), (9, 10, 0.5550, 0.9975), (0, 10, 0.0, 0.3085)],
)
def test_shares_have_the_exact_interval(true, count, low, high):
    """The table of Clopper and Pearson."""
    received = statistics.of_share(true, count)
    assert received == pytest.approx((low, high), abs=1e-4)
    claim = Claim.share("", "", np.arange(count) < true)
    assert claim.verdict == ("contrary" if true == 0 else "holds")


def test_a_share_near_a_half_is_undecided():
    assert (
        Claim.share("", "", np.array([True] * 7 + [False] * 3)).verdict == "undecided"
    )


def test_agreement_is_to_the_margin_that_was_said():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert Claim.agrees("", "", 2.0, values, within=3.0).holds
    assert Claim.agrees("", "", 2.0, values, within=1.0).verdict == "undecided"
    assert Claim.agrees("", "", 9.0, values, within=1.0).verdict == "contrary"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        *(("Fig. 3a", "paper"), ("Prop. 4, printed", "paper"), ("Table 1", "paper")),
        *(("reference run", "reference"), ("target", "target"), ("peers", "target")),
        *(("control of Sec. 5", "control"), ("closed form", "control")),
    ],
)
def test_kinds_follow_from_the_source(source, kind):
    assert Claim.close("", source, 1.0, 1.0, 0.1).kind == kind
    row = claims.plain(Claim.close("", source, 1.0, 1.0, 0.1), "command")
    assert row["paper" if kind == "paper" else "reference"] == 1.0
    assert row["reference" if kind == "paper" else "paper"] is None


@pytest.mark.parametrize("source", ["Prop. 4, corrected", "Fig. 4, by symmetry"])
def test_what_the_paper_does_not_print_is_not_put_into_its_mouth(source):
    row = claims.plain(Claim.close("", source, 1.0, 1.0, 0.1), "command")
    assert (row["kind"], row["paper"], row["reference"]) == ("paper", None, 1.0)


@pytest.mark.parametrize(("true", "verdict"), [(20, "holds"), (19, "contrary")])
def test_one_seed_refutes_a_theorem(true, verdict):
    claim = Claim.every("", "", np.arange(20) < true)
    assert (claim.verdict, claim.seeds) == (verdict, 20)


def test_claims_of_older_files_are_read(tmp_path):
    old = {"claim": "a", "source": "Fig. 1", "paper": 1, "measured": 1}
    path = tmp_path / "claims.json"
    rows = [{**old, "tolerance": 1, "holds": holds} for holds in (True, False)]
    path.write_text(json.dumps(rows))
    assert [c["verdict"] for c in claims.read(path)] == ["holds", "contrary"]
    assert claims.table(claims.read(path))[0][-1] == "holds"
