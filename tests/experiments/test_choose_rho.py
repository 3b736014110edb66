"""Tests of `experiments/choose_rho.py`: what it says where there is no radius."""

import numpy as np

from experiments import choose_rho


def test_a_sweep_without_a_radius_is_contrary_and_drawn_without_one():
    errors = np.array([[0.3, 0.3, 0.31], [0.2, 0.21, 0.2], [0.25, 0.26, 0.25]])
    arrays = {
        "sweeps": np.array(["digits", "fashion"]),
        "digits_chosen": np.array(0.0),
        "fashion_chosen": np.array(0.09),
    }
    for name in ("digits", "fashion"):
        arrays[f"{name}_rho"] = np.array([0.01, 0.1, 1.0])
        arrays[f"{name}_best"] = arrays[f"{name}_validation"] = errors
    none, some = choose_rho.judge(choose_rho.SCALES["cpu"], arrays)
    assert (none.verdict, some.verdict) == ("contrary", "holds")
    assert "no radius" in none.measured
    digits, fashion = choose_rho.plot(arrays).get_axes()[:2]
    assert len(digits.get_lines()) == 1
    assert len(fashion.get_lines()) == 2
