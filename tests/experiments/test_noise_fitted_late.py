"""Rows on how late SAM learns wrong labels: of fig3 and m_sharpness."""

import numpy as np
import pytest

from experiments import fig3, m_sharpness

SEEDS = 1e-3 * np.arange(4)


@pytest.mark.parametrize(
    ("noisy", "test", "verdict"),
    [(0.8, 0.18, "holds"), (0.95, 0.36, "undecided"), (0.98, 0.18, "contrary")],
)
def test_sam_learns_wrong_labels_in_the_second_half(noisy, test, verdict):
    # A ninth of the mistakes hits the wrong label by chance.
    curves = {"noisy_curve": (0.97, noisy), "curve": (0.18, test)}
    arrays = {"epoch": np.arange(1, 11)}
    for key in ("sam", "erm"):
        arrays |= {f"{key}_rho": np.array([0.1])}
        arrays |= {f"{key}_validation": np.zeros((1, 4))}
        for name, (early, late) in curves.items():
            curve = np.repeat([early, late], 5) + np.zeros((1, 4, 1))
            curve[0, :, -1] += (SEEDS - SEEDS.mean()) * (name == "noisy_curve")
            arrays[f"{key}_{name}"] = curve
    arrays |= {
        "sam_best": np.full((1, 4), 0.3) + SEEDS,
        "sam_last": np.full((1, 4), 0.5),
    }
    by_heart, overfits = fig3._late_fitting(arrays)
    assert by_heart.verdict == verdict
    assert overfits.verdict == "holds"
    assert {c.source for c in (by_heart, overfits)} == {"Sec. 4"}
    if verdict == "holds":
        assert by_heart.measured == "17.0, to 18.0 % (ERM 18)"


def test_the_slope_is_of_radii_that_train_and_seeds_that_have_all():
    noisy = np.array([[0.1, 0.1, 0.1], [0.5, 0.4, 1.0], [0.9, 0.9, 1.0], [0.7, 0.7, 1]])
    arrays = {
        "none_1_rho": np.array([0.01, 0.1, 1.0, 10.0]),
        "none_1_validation": np.zeros((4, 3)),
        "none_1_run": np.array([[True, True, True]] + [[True, True, False]] * 3),
        "none_1_best": np.array([[0.3] * 3, [0.2] * 3, [0.3] * 3, [0.9] * 3]),
        "none_1_noisy": noisy,
    }
    (claim,) = m_sharpness._fitting(arrays, "none_1", "m = 1")
    assert (claim.verdict, claim.seeds) == ("holds", 2)
    assert claim.measured == "40 (not learned, over rho: 10, 45, 90 %)"
    np.testing.assert_allclose(claim.interval, 40, atol=1e-9)
    arrays["none_1_noisy"] = noisy[[2, 1, 0, 3]]
    (claim,) = m_sharpness._fitting(arrays, "none_1", "m = 1")
    assert claim.verdict == "contrary"
    arrays["none_1_best"][1:] = 0.9
    assert list(m_sharpness._fitting(arrays, "none_1", "m = 1")) == []
