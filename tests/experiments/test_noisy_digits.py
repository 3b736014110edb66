"""What `make train` shows, judged."""

import numpy as np

from experiments import noisy_digits


def test_sam_is_judged_at_the_radius_of_the_recipe():
    arrays = {"sam_rho": np.array([0.1, 0.2, 0.3]), "erm_rho": np.array([0.1])}
    for name, (sam, erm) in {"best": (0.1, 0.2), "last": (0.1, 0.5)}.items():
        arrays[f"sam_{name}"] = np.array([[0.3, 0.3], [sam, sam], [0.9, 0.9]])
        arrays[f"erm_{name}"] = np.array([[erm, erm + 0.02]])
    arrays["sam_noisy"] = arrays["sam_last"] + 0.05
    arrays["erm_noisy"] = arrays["erm_last"] - 0.45
    arrays["sam_validation"] = np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]])
    arrays["erm_validation"] = np.array([[0.5, 0.5]])
    last, best, overfits, wrong = noisy_digits.judge(noisy_digits.SCALES["cpu"], arrays)
    assert last.measured == "10.0 ± 0.0 against 51.0 ± 1.4"
    assert best.measured == "10.0 ± 0.0 against 21.0 ± 1.4"
    assert wrong.measured == "15.0 % against 6.0 %"
    assert {c.rho for c in (last, best, wrong)} == {"sam 0.2, by other seeds"}
    assert overfits.verdict == "holds"
