"""Factors of ascents at two radii."""

import dataclasses
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import derivatives

SEEDS = 1e-3 * np.arange(3)


def test_single_examples_have_a_second_radius_with_rows_of_its_own():
    names = ["SumMax", "SAM", "MaxSum", "random", "SumMax, rho = 0.02"]
    factor = np.array([1.5, 1.02, 1.01, 1.0, 1.1])
    ratio = np.stack([np.ones(5), factor], -1) + np.zeros((3, 2, 5, 2))
    arrays = {"ascents": np.array(names)}
    for kind in derivatives.LABELS:
        arrays[f"{kind}_clean"] = ratio + SEEDS[:, None, None, None] * [0, 1]
        arrays[f"{kind}_noisy"] = np.ones((3, 2, 5, 2))
        lowered = np.array([1.0, 0.8, 0.6, 0.5, 1.0]) - 1e-4 * np.arange(3)[:, None]
        arrays[f"{kind}_lowered"] = np.repeat(lowered[:, None], 2, 1)
    claims = list(derivatives.judge(derivatives.SCALES["fashion"], arrays))
    own = [c for c in claims if "rho = 0.02" in c.claim]
    assert len(own) == 2 * 3
    assert {(c.verdict, c.kind) for c in own} == {("holds", "paper")}
    assert [c.rho for c in own[:3]] == ["0.02", "0.02, SAM 0.1", "0.02"]
    assert claims[0] in own  # the radius at which it trains comes first
    assert any(c.measured == "1.101 against 1.021" for c in own)
    assert {c.rho for c in claims if c not in own} == {"0.1"}


@pytest.mark.parametrize("single", [0.0, 0.02])
def test_of_the_second_pass_single_examples_alone_are_kept(monkeypatch, single):
    def measured(workdir, *, rho, groups, batches):
        ascents = len(groups) + 2  # MaxSum and random
        values = rho + np.arange(ascents) + np.zeros((4, ascents))
        names = dict.fromkeys(derivatives.MEASURED, values)
        return SimpleNamespace(epochs=np.arange(4), **names)

    monkeypatch.setattr(derivatives.networks, "weights_over_training", measured)
    settings = dataclasses.replace(derivatives.SCALES["fashion"], single=single)
    found = derivatives._measured(settings, pathlib.Path())
    expected = [0.1, 1.1, 2.1, 3.1, 4.1] + [0.02] * bool(single)
    assert len(expected) == len(derivatives._radii(settings))
    for name in derivatives.MEASURED:
        np.testing.assert_allclose(found[name], np.tile(expected, (4, 1)), rtol=1e-12)
