"""Methods over grids of rho and seeds."""

import pathlib

import numpy as np

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


def test_a_rho_at_the_edge_of_its_grid_is_told():
    arrays = {
        "a_rho": np.array([0.1, 0.2, 0.3]),
        "a_validation": np.array([[0.4], [0.5], [0.6]]),
        "b_rho": np.array([0.0]),
        "b_validation": np.array([[0.4]]),
    }
    assert comparison.radii(arrays, ["a", "b"]) == "a 0.1 (edge of its grid)"
    assert comparison.radii(arrays, ["b"]) is None
    inside = {**arrays, "a_validation": arrays["a_validation"][[1, 0, 2]]}
    assert comparison.radii(inside, ["a"]) == "a 0.2"
