"""Claims: when they hold."""

import math

import numpy as np
import pytest

from experiments.harness.claims import Claim


def test_close_and_mean_decide_by_their_tolerances():
    assert Claim.close("", "", 1.0, 1.1, 0.2).holds
    assert not Claim.close("", "", 1.0, 1.3, 0.2).holds
    values = np.array([1.0, 2.0, 3.0, 4.0])
    spread = np.std(values, ddof=1)
    claim = Claim.mean("", "", 2.0, values, seeds=4, slack=0.5)
    assert claim.measured == 2.5
    assert claim.tolerance == pytest.approx(4 * spread * (1 / 4 + 1 / 4) ** 0.5 + 0.5)
    assert Claim.share("", "", np.array([True] * 19 + [False])).holds
    assert not Claim.share("", "", np.array([True] * 18 + [False] * 2)).holds
    exact = Claim.mean("", "", 2.0, values, seeds=math.inf)
    assert exact.tolerance == pytest.approx(4 * spread / 2)
