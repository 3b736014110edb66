"""What pictures of a comparison show: limits, and lines that would hide others."""

import numpy as np
import pytest

from experiments.harness import comparison_plots
from sam_jax import plotting


def arrays_of(**curves):
    """Of every method one rho, three seeds and epochs 1 to 8."""
    arrays = {"epoch": np.arange(1, 9)}
    for key, curve in curves.items():
        arrays[f"{key}_rho"] = np.array([0.1])
        arrays[f"{key}_validation"] = np.zeros((1, 3))
        arrays[f"{key}_curve"] = np.array([[curve] * 3])
    return arrays


@pytest.fixture
def panel():
    _, (axes,) = plotting.panels()
    return axes


def test_an_early_spike_is_cut_and_the_title_says_so(panel):
    arrays = arrays_of(a=[0.9, 0.9, 0.3, 0.3, 0.3, 0.3, 0.2, 0.2])
    panel.set_title("attacks")
    comparison_plots.zoom(panel, arrays, ["a"], since=3)
    low, high = panel.get_ylim()
    assert 15 < low < 20 < 30 < high < 32
    assert panel.get_title() == "attacks, cut above"


def test_what_lies_within_is_not_called_cut(panel):
    comparison_plots.zoom(panel, arrays_of(a=[0.3] * 4 + [0.2] * 4), ["a"], since=1)
    low, high = panel.get_ylim()
    assert low < 20 < 30 < high
    assert panel.get_title() == ""


def test_what_is_left_of_the_picture_does_not_count(panel):
    panel.set_xlim(3, 8)
    arrays = arrays_of(a=[0.9, 0.1] + [0.3] * 4 + [0.2] * 2)
    comparison_plots.zoom(panel, arrays, ["a"], since=3)
    assert panel.get_ylim()[0] > 15
    assert panel.get_title() == ""


def test_one_seed_of_ten_that_fails_does_not_set_the_limits(panel):
    arrays = arrays_of(a=[0.2, 0.3] * 4)
    seeds = np.repeat(arrays["a_curve"][:, :1], 10, axis=1)
    seeds[0, 0] = 1.0
    arrays |= {"a_curve": seeds, "a_validation": np.zeros((1, 10))}
    comparison_plots.zoom(panel, arrays, ["a"], since=1)
    assert panel.get_ylim()[1] < 45


def test_a_method_is_drawn_dashed_from_where_it_is_its_own(panel):
    arrays = arrays_of(a=[0.3] * 8, b=[0.3] * 4 + [0.2] * 4)
    labels = {"a": "first", "b": "second"}
    comparison_plots.draw_curves(panel, arrays, labels, since={"b": 4})
    first, second = panel.get_lines()
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    np.testing.assert_array_equal(first.get_xdata(), arrays["epoch"])
    np.testing.assert_array_equal(second.get_xdata(), [4, 5, 6, 7, 8])
    np.testing.assert_allclose(second.get_ydata(), [30, 20, 20, 20, 20])
