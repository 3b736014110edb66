"""The numbers that the paper prints of its own scale: open, decided, and counted."""

import json
import pathlib

import numpy as np
import pytest

from experiments.harness import (
    execution,
    paper_scale,
    registry,
    report,
    statements,
    statistics,
)

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "paper.md"
EXPERIMENTS = sorted({printed.experiment for printed in paper_scale.PRINTED})


def methods(name):
    """The keys that the arrays of an experiment have at scale paper."""
    module = registry.load(name)
    found = {key[0] for key in module.runs(module.SCALES["paper"])}
    return found | {f"{key}_ema" for key in found if name == "table2"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_is_of_a_method_and_of_more_than_one_seed(name):
    module = registry.load(name)
    assert len(module.SCALES["paper"].seeds) > 1  # one has no interval
    for printed in paper_scale.of(name):
        assert set(printed.keys) <= methods(name)


def test_every_number_has_a_row_and_is_told_once():
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if "|" in line]
    listed = statements.places("; ".join(rows))
    for printed in paper_scale.PRINTED:
        assert statements.places(printed.source) <= listed, printed
        if isinstance(printed.paper, float):
            assert printed.low < printed.paper < printed.high
    claims = [printed.claim for printed in paper_scale.PRINTED]
    assert len(set(claims)) == len(claims)


def arrays_of(name, off):
    """Arrays of an experiment whose numbers are as printed, or that much off."""
    noise = np.array([-1e-4, 0.0, 1e-4])
    arrays = {"alphas": np.array([-0.5, 0.5, 1.5])}
    for key in methods(name):
        arrays[f"{key}_rho"] = np.array([0.1, 0.2])
        arrays[f"{key}_validation"] = np.array([[0.9] * 3, [0.1] * 3])
        for array in ("best", "last", "train_loss"):
            arrays[f"{key}_{array}"] = np.full((2, 3), 0.5)  # but for the chosen rho
        arrays[f"{key}_curve"] = np.full((2, 3, 4), 0.5)
    for printed in paper_scale.of(name):
        if isinstance(printed.paper, str):  # differences and rises
            continue
        if printed.source == "Fig. 11":
            error = (printed.paper + off) / 100 + noise
            arrays["sam_test_error"] = np.stack([error * 0, error, error + 1], 1)
        elif name == "robust_table":
            value = (printed.paper + off) / 100 + noise
            arrays[f"{printed.keys[0]}_auto"] = np.stack([value, value + 0.1], 1)
        elif "loss" in printed.claim:
            arrays[f"{printed.keys[0]}_train_loss"][1] = printed.paper + off + noise
        else:
            at = "last" if "last" in printed.claim else "best"
            error = (printed.paper + off) / 100 + noise
            arrays[f"{printed.keys[0]}_{at}"][1] = error
            arrays[f"{printed.keys[0]}_curve"][1] = error[:, None]
    if name in ("robust_peers", "large_batch"):
        first, _ = paper_scale.of(name)[0].keys
        arrays[f"{first}_best"][1] += off / 100 + noise
    return arrays


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize(("off", "verdict"), [(0.0, "holds"), (15.0, "contrary")])
def test_a_number_holds_where_the_seeds_have_it(name, off, verdict):
    found = list(paper_scale.judge(name, arrays_of(name, off)))
    assert len(found) == len(paper_scale.of(name)) > 0
    for claim in found:
        rises = "above the least" in claim.claim  # as printed in both
        assert claim.verdict == (statistics.HOLDS if rises else verdict), claim
        assert claim.kind == "paper"
        assert claim.seeds == 3


NUMBER = paper_scale.Printed(
    "fake", "Fig. 0", "a number", 2.0, lambda arrays: arrays["runs"][:, 0], 1.5, 2.5
)


@pytest.fixture
def number(monkeypatch):
    monkeypatch.setattr(paper_scale, "PRINTED", (NUMBER,))


def test_a_number_needs_a_gpu_until_there_are_results_at_scale_paper(
    module, number, tmp_path
):
    for name, scale in (("a", "cpu"), ("b", "smoke")):
        execution.execute("fake", scale, tmp_path / name)
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    row = "| a number | Fig. 0 | 2 (1.5 to 2.5) | - | - | - | - | full | needs a GPU |"
    command = "python -m experiments run fake --scale=paper"
    for text in (markdown, page):
        assert "2 hold, 2 are contrary, 1 needs a GPU." in text  # of two folders, once
        assert text.count(f"What needs a GPU is decided by: {command}.") == 1
    assert markdown.count(row) == 1
    assert f"<code>{command}</code>" in page
    assert page.count('data-verdict="needs a GPU"') == 1
    execution.execute("fake", "paper", tmp_path / "c")
    saved = json.loads((tmp_path / "c" / "claims.json").read_text())
    assert saved[-1]["claim"] == "a number"
    assert (saved[-1]["verdict"], saved[-1]["command"]) == ("holds", command)
    assert execution.check(tmp_path / "c").odd == []
    markdown = report.write(tmp_path)[0].read_text()
    assert "| needs a GPU |" not in markdown
    assert "4 hold, 3 are contrary." in markdown


def test_a_number_of_an_experiment_without_results_is_told_too(
    module, monkeypatch, tmp_path
):
    monkeypatch.setattr(paper_scale, "PRINTED", (NUMBER._replace(experiment="other"),))
    execution.execute("fake", "cpu", tmp_path / "a")
    markdown = report.write(tmp_path)[0].read_text()
    assert markdown.index("## other") < markdown.index("| a number | Fig. 0 |")
    assert "Not run: other." in markdown
