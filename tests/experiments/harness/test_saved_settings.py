"""Settings of results that version 0.1.0 has written: the next key must not break them.

The files of `saved` are never to be made anew: they stand for all results of that time.
"""

import json
import pathlib

import pytest

from experiments.harness import execution, registry
from sam_jax.training import key_types, keys

SAVED = pathlib.Path(__file__).with_name("saved")
NAMES = sorted(path.stem for path in SAVED.glob("*.json"))
NOVEL = key_types.since("9.9.9", key_types.number(0.25, "[0, 1]", "not thought of yet"))
# A folder of results of 0.1.0 may differ where an experiment itself has changed since.
RULE = {"power", "chunk"}  # of the grids of m, which were all written out before
CHANGED = {
    "fig1": {"seeds"},
    "fig9": {"seeds"},
    "fig11": {"checkpoint.every_epochs", "schedule.name", "swa_rate"},
    "fig4": {"step_grid"},
    "sum_max_run": {"seed", "seeds"},
    "m_sharpness": RULE,
    "m_norms": RULE | {"rho_single", "rho_group"},
    "table1": {"derivative"},
    "table1_factors": {"derivative", "factors", "resnet_rho", "rho", "unnormalized"},
}


def read(name):
    return json.loads((SAVED / f"{name}.json").read_text())


def differing(name):
    record = read(name)
    now = registry.settings(name, record["scale"])
    return {key for key, *_ in execution.differences(now, record["settings"])}


def test_the_files_are_there():
    assert len(NAMES) == 26
    assert set(NAMES) <= set(registry.names())


@pytest.mark.parametrize("name", NAMES)
def test_saved_results_are_those_of_todays_settings(name):
    assert differing(name) == CHANGED.get(name, set())


@pytest.mark.parametrize("name", ["fig3", "peers", "table1"])
def test_a_new_key_leaves_saved_results_valid(name, monkeypatch):
    monkeypatch.setitem(keys.KEYS, "sam.novel", NOVEL)
    assert differing(name) == CHANGED.get(name, set())
    monkeypatch.setitem(keys.KEYS, "sam.novel", key_types.since("", NOVEL))
    assert differing(name) == CHANGED.get(name, set()) | {"sam.novel"}
