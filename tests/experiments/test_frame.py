"""Folders of results: what is written, what is refused, what the report says."""

import dataclasses
import json
import math
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import __main__ as cli
from experiments import frame, report
from experiments.frame import Claim
from sam_jax import plotting


@dataclasses.dataclass(frozen=True)
class Settings:
    seeds: int = 3
    rho: float = 0.1


def fake(**changes):
    """An experiment that saves its settings."""

    def run(settings):
        arrays = {"x": np.arange(4.0), "runs": np.full((settings.seeds, 4), 2.0)}
        good = Claim.close("two", "Fig. 0", 2.0, jnp.float32(2), 0.1)
        bad = Claim("a|b", "Fig. 0", None, 3, "<= 1", np.bool_(False))
        return {**arrays, "width": np.array(jnp.zeros(1).itemsize)}, [good, bad]

    def plot(arrays):
        figure, (axes,) = plotting.panels()
        plotting.band(axes, arrays["x"], arrays["runs"])
        return figure

    module = types.ModuleType("fake", "A fake.\n\nMore.")
    scales = {
        "smoke": Settings(1),
        "cpu": Settings(),
        "paper": Settings(rho=0.2),
    }
    parts = {"SOURCE": "Figure 0", "SCALES": scales, "run": run, "plot": plot}
    module.__dict__.update(parts | changes)
    return module


@pytest.fixture
def module(monkeypatch):
    chosen = fake()
    monkeypatch.setattr(frame, "load", lambda name: chosen)
    monkeypatch.setattr(frame, "names", lambda: ["fake", "other"])
    return chosen


def test_a_run_writes_settings_arrays_claims_and_figure(module, tmp_path):
    frame.execute("fake", "cpu", tmp_path)
    record = json.loads((tmp_path / "settings.json").read_text())
    assert record == {
        "experiment": "fake",
        "scale": "cpu",
        "settings": {"seeds": 3, "rho": 0.1},
    }
    assert np.load(tmp_path / "arrays.npz")["runs"].shape == (3, 4)
    claims = json.loads((tmp_path / "claims.json").read_text())
    keys = ["claim", "source", "paper", "measured", "tolerance", "holds"]
    assert [list(claim) for claim in claims] == [keys, keys]
    assert [claim["holds"] for claim in claims] == [True, False]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_drawn_from_the_saved_arrays(module, tmp_path):
    frame.execute("fake", "cpu", tmp_path)
    seen = []
    module.plot = lambda arrays: seen.append(arrays) or plotting.panels()[0]
    module.run = None  # not needed
    with np.load(tmp_path / "arrays.npz") as saved:
        changed = {**saved, "runs": np.full((3, 4), 7.0)}
    np.savez(tmp_path / "arrays.npz", **changed)
    frame.draw("fake", tmp_path)
    np.testing.assert_array_equal(seen[0]["runs"], changed["runs"])


@pytest.mark.parametrize(("x64", "width"), [(True, 8), (False, 4)])
def test_precision_is_what_the_experiment_declares(module, tmp_path, x64, width):
    module.X64 = x64
    frame.execute("fake", "cpu", tmp_path)
    assert np.load(tmp_path / "arrays.npz")["width"] == width
    assert jax.config.read("jax_enable_x64")  # the tests' own, restored


def test_other_settings_are_refused_with_the_keys_that_differ(module, tmp_path):
    frame.execute("fake", "cpu", tmp_path)
    with pytest.raises(ValueError, match=r"rho: 0\.2 now, 0\.1 there"):
        frame.execute("fake", "paper", tmp_path)
    module.SCALES["cpu"] = Settings(seeds=5)
    with pytest.raises(ValueError, match="seeds: 5 now, 3 there"):
        frame.execute("fake", "cpu", tmp_path)
    with pytest.raises(ValueError, match="holds results of 'fake'"):
        frame.execute("other", "cpu", tmp_path)


def test_the_same_settings_run_again(module, tmp_path):
    frame.execute("fake", "cpu", tmp_path)
    frame.execute("fake", "cpu", tmp_path)


def test_arrays_that_are_not_finite_are_refused(module, tmp_path):
    module.run = lambda settings: ({"bad": np.array([np.nan])}, [])
    with pytest.raises(ValueError, match="'bad'"):
        frame.execute("fake", "cpu", tmp_path)
    assert not (tmp_path / "arrays.npz").exists()


def test_report_has_every_claim_and_labels_the_scale(module, tmp_path):
    frame.execute("fake", "cpu", tmp_path / "a")
    frame.execute("fake", "smoke", tmp_path / "b")
    frame.execute("fake", "paper", tmp_path / "c")
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    for text in (markdown, page):
        assert "3 of 6 claims hold. Not run: other." in text
        assert text.count("does not hold") == 3
        assert "smoke scale" in text.lower()
        assert "a/figure.png" in text
        assert "A fake." in text
    assert "rho = 0.1 (full: 0.2)" in markdown
    assert markdown.count(report.FULL) == 1
    assert r"| a\|b | Fig. 0 | - | 3 | <= 1 | does not hold |" in markdown
    assert "<td>&lt;= 1</td>" in page


def test_report_without_results_says_how_to_get_some(tmp_path):
    with pytest.raises(ValueError, match="python -m experiments run NAME"):
        report.write(tmp_path)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fig99"], "Unknown experiment 'fig99'; known: .*fig4"),
        (["run", "frame"], "Unknown experiment 'frame'"),
        (["run", "__main__"], "Unknown experiment '__main__'"),
        (["run", "fig6", "--scale=huge"], "'huge'; known: smoke, cpu, paper"),
        (["report", "--results=/nonexistent"], "holds no results"),
    ],
)
def test_wrong_arguments_end_in_one_line_and_status_2(capsys, arguments, message):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_list_names_source_and_title(capsys):
    assert cli.main(["list"]) == 0
    assert "Figure 6" in capsys.readouterr().out


def test_run_and_report_from_the_command_line(capsys, tmp_path):
    assert cli.main(["run", "fig6", "--scale=smoke", f"--out={tmp_path}/fig6"]) == 0
    assert "holds" in capsys.readouterr().out
    assert cli.main(["report", f"--results={tmp_path}"]) == 0
    assert (tmp_path / "index.html").exists()
