import numpy as np
import pytest

from experiments import table1_rule
from experiments.harness.runs import TrainedRun

SETTINGS = table1_rule.SCALES["fashion"]
# kind -> last test error by rho, at SAM's radii and at ten times them.
LEARNED = {
    "erm": [0.3],
    "sam": [0.29, 0.28, 0.2, 0.4, 0.5],
    "sam_direction": [0.3, 0.29, 0.22, 0.4, 0.5],
    "sam_derivative": [0.29, 0.28, 0.29, 0.4, 0.5],
}


def judged(tmp_path, **errors):
    """Verdicts by claim; best epochs choose another rho than last ones do."""
    methods = {m.key: m for m in table1_rule.methods(SETTINGS)}
    found = {}
    for key in table1_rule.runs(SETTINGS):
        name, rho, seed = key
        kind = name.split("_", 1)[1]
        few = name.startswith("few")
        by_rho = (LEARNED | errors)[kind] if few else [0.2, 0.25, 0.3, 0.4, 0.5]
        last = by_rho[list(methods[name].values).index(rho)] + 1e-3 * seed
        unlearned = 1 - last - (0.4 if few else 0.01)
        summary = {
            "validation_error_best": 0.6 - last,
            "validation_error_last": 0.2 + last,
            "test_error_best": 0.15,
            "test_error_last": last,
            "train_noisy_error_last": unlearned,
        }
        found[key] = TrainedRun(tmp_path, summary, [{"epoch": 1, "test_error": last}])
    arrays = table1_rule.run(SETTINGS, found)
    return {c.claim: c.verdict for c in table1_rule.judge(SETTINGS, arrays)}


def test_what_the_rule_predicts_is_judged_by_last_errors(tmp_path):
    verdicts = judged(tmp_path)
    assert len(verdicts) == 9
    assert set(verdicts.values()) == {"holds"}


@pytest.mark.parametrize(
    ("errors", "contrary"),
    [
        ({"sam": [0.4] * 5}, "SAM below ERM"),
        ({"sam_direction": [0.35] * 5}, "SAM direction below ERM"),
        ({"sam_derivative": [0.21] * 5}, "SAM direction below SAM derivative"),
        ({"sam_derivative": [0.25] * 5}, "gain of the derivative over half"),
    ],
)
def test_each_prediction_can_fail(tmp_path, errors, contrary):
    failed = [claim for claim, v in judged(tmp_path, **errors).items() if v != "holds"]
    assert any(contrary in claim for claim in failed)


def test_the_derivative_has_ten_times_the_radii():
    grids = {m.key: m.values for m in table1_rule.methods(SETTINGS)}
    np.testing.assert_allclose(
        grids["few_sam_derivative"], 10 * np.array(grids["few_sam"])
    )
