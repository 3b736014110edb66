"""What is decided about SumMax on a network is of seeds and radii as declared."""

import numpy as np
import pytest

from experiments import m_sharpness, sum_max_deep

SETTINGS, BEFORE = (m.SCALES["fashion"] for m in (sum_max_deep, m_sharpness))


def judged(sum_max, max_sum, last=None):
    """Verdicts by claim, of two radii, the second of which is chosen; last errors are
    the best ones, or SumMax's is another.
    """
    arrays, seeds = {}, np.linspace(0, 0.01, 4)
    errors = {"none_erm": 0.3, "none_1": sum_max, "none_0": max_sum}
    for key, error in errors.items():
        arrays[f"{key}_rho"] = np.array([0.1, 0.2])
        arrays[f"{key}_validation"] = np.array([[0.5] * 4, [0.4] * 4])
        for name in ("best", "last"):
            arrays[f"{key}_{name}"] = np.stack([0.9 + seeds, error + seeds])
    if last is not None:
        arrays["none_1_last"] += last - sum_max
    found = sum_max_deep.judge(SETTINGS, arrays)
    return {(c.kind, c.claim): c.verdict for c in found}


@pytest.mark.parametrize(
    ("sum_max", "max_sum", "verdict"),
    [(0.2, 0.25, "holds"), (0.25, 0.2, "contrary"), (0.2, 0.2, "undecided")],
)
def test_the_papers_statement_is_of_both_epochs(sum_max, max_sum, verdict):
    found = judged(sum_max, max_sum)
    paper = {c: v for (kind, c), v in found.items() if kind == "paper"}
    assert len(paper) == 2
    assert set(paper.values()) == {verdict}
    assert {v for (kind, _), v in found.items() if kind == "control"} == {"holds"}


def test_best_and_last_epochs_are_judged_apart():
    found = judged(0.2, 0.25, last=0.3)
    verdicts = [verdict for (kind, _), verdict in found.items() if kind == "paper"]
    assert verdicts == ["holds", "contrary"]


def test_a_method_that_is_worse_than_erm_is_told():
    found = judged(0.35, 0.25)
    assert found["control", "m = 1 (SumMax) below ERM: test error, best epoch (%)"] == (
        "contrary"
    )


def test_new_seeds_and_the_radii_of_m_sharpness():
    assert not set(SETTINGS.seeds) & set(BEFORE.seeds)
    grids = [
        {m.key: tuple(m.values) for m in module.methods(settings)}
        for module, settings in ((sum_max_deep, SETTINGS), (m_sharpness, BEFORE))
    ]
    assert grids[0].keys() == sum_max_deep.LABELS.keys()
    assert all(grids[1][key] == grid for key, grid in grids[0].items())
