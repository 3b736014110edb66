"""Methods against each other, seed by seed."""

import numpy as np
import pytest

from experiments.harness import pairs

ARRAYS = {
    "a_rho": np.array([0.1, 0.2, 0.3]),
    "a_validation": np.array([[0.5] * 4, [0.4] * 4, [0.6] * 4]),
    "a_best": np.array([[0.9] * 4, [0.10, 0.11, 0.12, 0.13], [0.9] * 4]),
    "a_last": np.array([[0.9] * 4, [0.2] * 4, [0.9] * 4]),
    "b_rho": np.array([0.0]),
    "b_validation": np.full((1, 4), 0.4),
    "b_best": np.array([[0.20, 0.22, 0.21, 0.24]]),
    "b_last": np.array([[0.1, 0.3, 0.2, 0.2]]),
}


def test_a_difference_is_judged_pair_by_pair_at_the_chosen_rho():
    """Differences in points: -10, -11, -9, -11, so -10.25 +- 3.182 * .9574 / 2."""
    claim = pairs.lower("a below b", "Fig. 0", "9 against 13", ARRAYS, "a", "b")
    assert claim.measured == (
        "11.5 ± 1.3 against 21.8 ± 1.7 (last: 20.0 ± 0.0, 20.0 ± 8.2)"
    )
    assert claim.interval == pytest.approx((-11.7734, -8.7266), abs=1e-3)
    assert (claim.verdict, claim.seeds, claim.rho) == ("holds", 4, "a 0.2")
    other = pairs.lower("", "", None, ARRAYS, "b", "a")
    assert other.verdict == "contrary"
    ten = pairs.lower("", "", None, ARRAYS, "a", "b", margin=0.10)
    assert ten.verdict == "undecided"
    assert pairs.lower("", "", None, ARRAYS, "b", "a", margin=-0.12).holds
    assert pairs.lower("", "", None, ARRAYS, "a", "b", "last").verdict == ("undecided")


def test_without_a_margin_the_limit_is_zero():
    claim = pairs.paired("a", "Fig. 1", None, [0.1, 0.2], [0.3, 0.5])
    assert claim.tolerance == "< 0"


def test_methods_may_be_alike_at_one_epoch_and_not_at_the_other():
    arrays = {"a_rho": np.array([0.1]), "b_rho": np.array([0.1])}
    for key, last in {"a": 0.3, "b": 0.5}.items():
        arrays[f"{key}_validation"] = arrays[f"{key}_best"] = np.array([[0.2, 0.21]])
        arrays[f"{key}_last"] = np.array([[last, last + 0.001]])
    verdicts = {}
    for at in ("best", "last"):
        claim = pairs.alike("a less b", "", None, arrays, ("a", "b"), at, within=1)
        assert claim.claim == f"a less b, {at} epoch (points)"
        verdicts[at] = claim.verdict
    assert verdicts == {"best": "holds", "last": "contrary"}
