"""Rows on how late SAM fits noisy labels: of fig3, m_sharpness and derivatives."""

import numpy as np
import pytest

from experiments import derivatives, fig3, m_sharpness

SEEDS = 1e-3 * np.arange(4)


@pytest.mark.parametrize(
    ("end", "last", "verdicts"),
    [(0.6, 0.5, ["holds", "holds"]), (0.95, 0.2, ["contrary", "contrary"])],
)
def test_sam_fits_noise_in_the_second_half(end, last, verdicts):
    curve = np.linspace(0.9, 0.9, 10)
    curve[5:] = np.linspace(0.9, end, 5)
    arrays = {
        "epoch": np.arange(1, 11),
        "sam_rho": np.array([0.1]),
        "sam_validation": np.zeros((1, 4)),
        "sam_noisy_curve": (curve + SEEDS[:, None] * (np.arange(10) == 9))[None],
        "sam_best": np.full((1, 4), 0.3) + SEEDS,
        "sam_last": np.full((1, 4), last),
    }
    claims = list(fig3._late_fitting(arrays))
    assert [c.verdict for c in claims] == verdicts
    assert all(c.source == "Sec. 4" and c.kind == "paper" for c in claims)


def test_tau_is_of_the_seeds_that_have_all_radii():
    noisy = np.array([[0.1, 0.2, 0.1], [0.5, 0.4, 1.0], [0.9, 0.95, 1.0]])
    arrays = {
        "none_1_rho": np.array([0.01, 0.1, 1.0]),
        "none_1_validation": np.zeros((3, 3)),
        "none_1_run": np.array([[True, True, True]] + [[True, True, False]] * 2),
        "none_1_noisy": noisy,
    }
    (claim,) = m_sharpness._fitting(arrays, "none_1", "m = 1")
    assert (claim.verdict, claim.seeds) == ("holds", 2)
    assert "15, 45, 92" in claim.measured
    arrays["none_1_noisy"] = noisy[::-1]
    (claim,) = m_sharpness._fitting(arrays, "none_1", "m = 1")
    assert claim.verdict == "contrary"


def test_single_examples_have_a_second_radius_with_rows_of_its_own():
    names = ["SumMax", "SAM", "MaxSum", "random", "SumMax, rho = 0.02"]
    factor = np.array([1.5, 1.02, 1.01, 1.0, 1.1])
    ratio = np.stack([np.ones(5), factor], -1) + np.zeros((3, 2, 5, 2))
    arrays = {"ascents": np.array(names)}
    for kind in derivatives.LABELS:
        arrays[f"{kind}_clean"] = ratio + SEEDS[:3, None, None, None] * [0, 1]
        arrays[f"{kind}_noisy"] = np.ones((3, 2, 5, 2))
        lowered = np.array([1.0, 0.8, 0.6, 0.5, 1.0]) - 1e-4 * np.arange(3)[:, None]
        arrays[f"{kind}_lowered"] = np.repeat(lowered[:, None], 2, 1)
    claims = list(derivatives.judge(derivatives.SCALES["fashion"], arrays))
    own = [c for c in claims if "rho = 0.02" in c.claim]
    assert len(own) == 2 * 3
    assert {(c.rho, c.verdict, c.kind) for c in own} == {("0.02", "holds", "paper")}
    assert any(c.measured == "1.101 against 1.021" for c in own)
    assert {c.rho for c in claims if c not in own} == {"0.1"}
