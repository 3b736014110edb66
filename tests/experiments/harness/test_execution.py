"""Folders of results: what is written, and what is refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.harness import execution
from sam_jax import plotting


def test_a_run_writes_settings_arrays_claims_and_figure(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    record = json.loads((tmp_path / "settings.json").read_text())
    assert record == {
        "experiment": "fake",
        "scale": "cpu",
        "settings": {"seeds": 3, "rho": 0.1},
    }
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["runs"].shape == (3, 4)
    claims = json.loads((tmp_path / "claims.json").read_text())
    keys = ["claim", "source", "paper", "measured", "tolerance", "holds"]
    assert [list(claim) for claim in claims] == [keys, keys]
    assert [claim["holds"] for claim in claims] == [True, False]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_drawn_from_the_saved_arrays(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    seen = []
    module.plot = lambda arrays: seen.append(arrays) or plotting.panels()[0]
    module.run = None  # not needed
    with np.load(tmp_path / "arrays.npz") as saved:
        changed = {**saved, "runs": np.full((3, 4), 7.0)}
    np.savez(tmp_path / "arrays.npz", **changed)
    execution.draw("fake", tmp_path)
    np.testing.assert_array_equal(seen[0]["runs"], changed["runs"])


@pytest.mark.parametrize(("x64", "width"), [(True, 8), (False, 4)])
def test_precision_is_what_the_experiment_declares(module, tmp_path, x64, width):
    module.X64 = x64
    execution.execute("fake", "cpu", tmp_path)
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["width"] == width
    assert jax.config.read("jax_enable_x64")  # the tests' own, restored


def test_other_settings_are_refused_with_the_keys_that_differ(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    with pytest.raises(ValueError, match=r"rho: 0\.2 now, 0\.1 there"):
        execution.execute("fake", "paper", tmp_path)
    module.SCALES["cpu"] = dataclasses.replace(module.SCALES["cpu"], seeds=5)
    with pytest.raises(ValueError, match="seeds: 5 now, 3 there"):
        execution.execute("fake", "cpu", tmp_path)
    with pytest.raises(ValueError, match="holds results of 'fake'"):
        execution.execute("other", "cpu", tmp_path)


def test_the_same_settings_run_again(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    execution.execute("fake", "cpu", tmp_path)


def test_arrays_that_are_not_finite_are_refused(module, tmp_path):
    module.run = lambda settings: ({"bad": np.array([np.nan])}, [])
    with pytest.raises(ValueError, match="'bad'"):
        execution.execute("fake", "cpu", tmp_path)
    assert not (tmp_path / "arrays.npz").exists()
