"""The page of all results."""

import json

import pytest

from experiments import __main__ as cli
from experiments.harness import execution, report


def test_report_has_every_claim_and_labels_the_scale(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    execution.execute("fake", "smoke", tmp_path / "b")
    execution.execute("fake", "paper", tmp_path / "c")
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    for text in (markdown, page):
        assert (
            "Of 6 statements of the paper: 3 hold, 3 are contrary. "
            "Of 3 targets: 3 are undecided. Not run: other."
        ) in text
        assert "smoke scale" in text.lower()
        assert "a/figure.png" in text
        assert "A fake." in text
    assert "rho = 0.1 (full: 0.2)" in markdown
    assert markdown.count(report.FULL) == 1
    assert r"| a\|b | Fig. 0 | <= 1 | 3 | - | - | - | contrary |" in markdown
    assert "<td>&lt;= 1</td>" in page


def test_words_of_a_file_stay_words_on_both_pages(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    path = tmp_path / "a" / "claims.json"
    found = json.loads(path.read_text())
    found[0]["claim"] = "<script>alert(1)</script> [see](javascript:alert(1))\n# a<b"
    path.write_text(json.dumps(found))
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    assert "<script" not in markdown + page
    assert "](javascript" not in markdown
    assert "\n# a<b" not in markdown


def test_results_of_older_versions_are_counted_as_such(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    path = tmp_path / "a" / "claims.json"
    old = {"claim": "old", "source": "Fig. 9", "paper": 1, "measured": 2}
    old |= {"tolerance": 1, "holds": False}
    path.write_text(json.dumps([old]))
    text = report.write(tmp_path)[0].read_text()
    assert "Of 1 statements of the paper: 1 is contrary. 1 of all were judged" in text


def test_report_without_results_says_how_to_get_some(tmp_path):
    with pytest.raises(ValueError, match="python -m experiments run NAME"):
        report.write(tmp_path)


def test_no_folder_is_not_the_one_at_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--results="]) == 2
    assert "empty --results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
