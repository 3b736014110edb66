"""Methods over grids of rho and seeds."""

import pathlib

import numpy as np
import pytest

from experiments.harness import comparison, registry, training
from experiments.harness.runs import TrainedRun, Trial
from tests.training.problems import tiny


def test_a_comparison_collects_by_method_rho_and_seed(tmp_path):
    methods = [
        comparison.Method("erm", "ERM", tiny()),
        comparison.Method("sam", "SAM", tiny(sam__kind="sam"), (0.1, 1.0)),
    ]
    trained = training.train(comparison.plan(methods, (3, 4)), tmp_path, lambda _: None)
    arrays = comparison.collect(methods, (3, 4), trained)
    assert arrays["sam_validation"].shape == (2, 2)
    assert arrays["sam_curve"].shape == (2, 2, 2)
    np.testing.assert_array_equal(arrays["epoch"], [1, 2])
    expected = trained["sam", 1.0, 4].summary["test_error_last"]
    assert arrays["sam_last"][1, 1] == expected
    np.testing.assert_array_equal(arrays["sam_curve"][..., -1], arrays["sam_last"])
    at = comparison.index(arrays, "sam")
    assert arrays["sam_validation"].mean(1).argmin() == at
    assert comparison.rho(arrays, "sam") == (0.1, 1.0)[at]


def test_the_first_seeds_choose_rho_for_the_others(tmp_path):
    """A radius of 1e4 leaves nothing to learn from: the other one is chosen."""
    methods = [
        comparison.Method("erm", "ERM", tiny()),
        comparison.Method("sam", "SAM", tiny(sam__kind="sam"), (1e4, 0.1)),
    ]
    seeds, lines = (3, 4, 5), []
    planned = comparison.plan(methods, seeds, 1)
    assert sum(run.share for run in planned.values()) == 7
    trained = training.train(planned, tmp_path, lines.append)
    assert set(planned) - set(trained) == {("sam", 1e4, 4), ("sam", 1e4, 5)}
    assert len(lines) == 7
    arrays = comparison.collect(methods, seeds, trained)
    np.testing.assert_array_equal(arrays["sam_run"], [[1, 0, 0], [1, 1, 1]])
    assert "erm_run" not in arrays
    assert comparison.rho(arrays, "sam") == 0.1
    np.testing.assert_array_equal(arrays["sam_last"][0, 1:], 1)
    np.testing.assert_array_equal(arrays["sam_curve"][0, 1:], 1)
    assert arrays["sam_last"][1, 2] == trained["sam", 0.1, 5].figure("test_error_last")
    assert comparison.tried(arrays, "sam") == 1
    assert comparison.tried(arrays, "erm") == 3
    whole = comparison.plan(methods, seeds)
    assert all(run.trial is None for run in whole.values())


def test_no_run_goes_on_from_one_that_is_not_trained():
    module = registry.load("fig2")
    planned = module.runs(module.SCALES["fashion"])
    waiting = [key for key, run in planned.items() if run.trial is not None]
    assert {key[0] for key in waiting} == {"sam", "erm_to_sam", "sam_to_erm"}
    for run in planned.values():
        if run.parent is not None:
            assert planned[run.parent].trial in (None, run.trial)


def test_of_equal_values_a_trial_chooses_the_first():
    def ended(error):
        return TrainedRun(pathlib.Path(), {"validation_error_best": error}, [])

    trained = {(rho, seed): ended(0.5) for rho in (1, 2, 3) for seed in (0, 1)}
    keys = tuple(tuple((rho, seed) for seed in (0, 1)) for rho in (1, 2, 3))
    trials = [Trial(keys, "validation_error_best", i) for i in range(3)]
    assert [t.chosen(trained) for t in trials] == [True, False, False]
    trained[3, 1] = ended(0.25)
    assert [t.chosen(trained) for t in trials] == [False, False, True]
    trained[3, 1] = TrainedRun(pathlib.Path(), {}, [])  # failed
    assert [t.chosen(trained) for t in trials] == [True, False, False]


def test_selection_is_by_the_mean_over_seeds():
    validation = np.array([[0.5, 0.25], [0.25, 0.25], [0.375, 0.125]])
    assert comparison.select(validation) == 1  # the first of equals
    several = np.stack([validation, validation[::-1]])
    np.testing.assert_array_equal(comparison.select(several), [1, 0])


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
    claim = comparison.lower("a below b", "Fig. 0", "9 against 13", ARRAYS, "a", "b")
    assert claim.measured == (
        "11.5 ± 1.3 against 21.8 ± 1.7 (last: 20.0 ± 0.0, 20.0 ± 8.2)"
    )
    assert claim.interval == pytest.approx((-11.7734, -8.7266), abs=1e-3)
    assert (claim.verdict, claim.seeds, claim.rho) == ("holds", 4, "a 0.2")
    other = comparison.lower("", "", None, ARRAYS, "b", "a")
    assert other.verdict == "contrary"
    ten = comparison.lower("", "", None, ARRAYS, "a", "b", margin=0.10)
    assert ten.verdict == "undecided"
    assert comparison.lower("", "", None, ARRAYS, "b", "a", margin=-0.12).holds
    assert comparison.lower("", "", None, ARRAYS, "a", "b", "last").verdict == (
        "undecided"
    )


def test_a_rho_at_the_edge_of_its_grid_is_told():
    edge = {**ARRAYS, "a_validation": ARRAYS["a_validation"][[1, 0, 2]]}
    assert comparison.radii(edge, ["a", "b"]) == "a 0.1 (edge of its grid)"
    assert comparison.radii(edge, ["b"]) is None


def test_without_a_margin_the_limit_is_zero():
    claim = comparison.paired("a", "Fig. 1", None, [0.1, 0.2], [0.3, 0.5])
    assert claim.tolerance == "< 0"


def test_methods_may_be_alike_at_one_epoch_and_not_at_the_other():
    arrays = {"a_rho": np.array([0.1]), "b_rho": np.array([0.1])}
    for key, last in {"a": 0.3, "b": 0.5}.items():
        arrays[f"{key}_validation"] = arrays[f"{key}_best"] = np.array([[0.2, 0.21]])
        arrays[f"{key}_last"] = np.array([[last, last + 0.001]])
    verdicts = {}
    for at in ("best", "last"):
        claim = comparison.alike("a less b", "", None, arrays, ("a", "b"), at, within=1)
        assert claim.claim == f"a less b, {at} epoch (points)"
        verdicts[at] = claim.verdict
    assert verdicts == {"best": "holds", "last": "contrary"}
