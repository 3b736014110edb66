"""Methods over grids of rho and seeds."""

import numpy as np

from experiments.harness import comparison, training
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


def test_selection_is_by_the_mean_over_seeds():
    validation = np.array([[0.5, 0.25], [0.25, 0.25], [0.375, 0.125]])
    assert comparison.select(validation) == 1  # the first of equals
    several = np.stack([validation, validation[::-1]])
    np.testing.assert_array_equal(comparison.select(several), [1, 0])


def test_lower_says_the_numbers_and_counts_seeds():
    better, worse = np.array([0.1, 0.2]), np.array([0.3, 0.1])
    claim = comparison.lower("a below b", "Fig. 0", None, better, worse)
    assert claim.measured == "15.0 ± 7.1 against 20.0 ± 14.1; 1 of 2 seeds"
    assert claim.holds
    assert not comparison.lower("", "", None, better, worse, margin=0.1).holds
    assert comparison.lower("", "", None, worse, better, margin=-0.1).holds
