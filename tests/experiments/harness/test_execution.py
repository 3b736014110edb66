"""Folders of results: what is written, and what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from experiments import __main__ as cli
from experiments.harness import execution, registry, training
from experiments.harness.runs import PlannedRun, TrainedRun
from sam_jax import plotting
from tests.training.problems import tiny


def test_a_run_writes_settings_arrays_claims_and_figure(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    record = json.loads((tmp_path / "settings.json").read_text())
    assert (record["experiment"], record["scale"]) == ("fake", "cpu")
    assert record["settings"] == {"seeds": 3, "rho": 0.1}
    assert record["methods"] == {}
    assert record["versions"]["jax"] == jax.__version__
    assert record["commit"]
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["runs"].shape == (3, 4)
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert list(claims[0]) == [
        *("claim", "source", "kind", "paper", "reference", "measured", "tolerance"),
        *("verdict", "interval", "seeds", "rho", "command"),
    ]
    assert [c["verdict"] for c in claims] == ["holds", "contrary", "undecided"]
    assert [c["kind"] for c in claims] == ["paper", "paper", "target"]
    assert claims[0]["command"] == "python -m experiments run fake --scale=cpu"
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


def test_settings_say_what_the_runs_were_trained_on(module, tmp_path, monkeypatch):
    def trained(*devices):
        summaries = [{"device": device} for device in devices] + [{}]
        runs = [TrainedRun(tmp_path, summary, []) for summary in summaries]
        monkeypatch.setattr(training, "train", lambda *_, **__: dict(enumerate(runs)))
        execution.execute("fake", "cpu", tmp_path)
        return json.loads((tmp_path / "settings.json").read_text()).get("trained_on")

    module.runs, plain = (lambda _: {("erm", 0): PlannedRun(tiny())}), module.run
    module.run = lambda settings, trained: plain(settings)
    assert trained("H100", "cpu", "cpu") == ["H100", "cpu"]
    assert trained() is None  # by a version that did not say


def test_an_experiment_of_many_nights_goes_on_from_its_archive(module, tmp_path):
    several = {("erm", seed): PlannedRun(tiny(seed=seed)) for seed in (0, 1)}
    module.runs = module.kept = lambda _: several
    module.X64, plain, seen = True, module.run, []
    module.run = lambda settings, trained: seen.append(trained) or plain(settings)
    execution.execute("fake", "cpu", tmp_path / "here")
    (tmp_path / "there").mkdir()
    archive = tmp_path / "here" / "runs.cpu.tar.xz"
    archive.rename(tmp_path / "there" / archive.name)
    execution.execute("fake", "cpu", tmp_path / "there")
    first, second = seen
    assert [r.summary for r in first.values()] == [r.summary for r in second.values()]
    assert not list((tmp_path / "there").rglob("checkpoints"))


def test_an_archive_keeps_the_runs_of_settings_to_come(module, tmp_path):
    """Such as of places that are not in the table yet."""
    several = {("erm", seed): PlannedRun(tiny(seed=seed)) for seed in (0, 1)}
    module.kept, module.X64, plain = (lambda _: several), True, module.run
    module.run = lambda settings, trained: plain(settings)
    archive = tmp_path / "runs.cpu.tar.xz"
    saved = []
    for wanted in (several, {("erm", 1): several["erm", 1]}):
        module.runs = lambda _, wanted=wanted: wanted
        execution.execute("fake", "cpu", tmp_path)
        saved.append(archive.read_bytes())
        shutil.rmtree(tmp_path / "runs")
        (tmp_path / "settings.json").unlink()
    assert saved[0] == saved[1]


@pytest.mark.parametrize("timed", [True, False])
def test_runs_whose_times_are_compared_are_trained_alone(
    module, tmp_path, monkeypatch, timed
):
    """Not side by side, and not as one program where that pays, on an accelerator."""
    received = {}
    monkeypatch.setattr(training, "train", lambda *_, **how: received.update(how) or {})
    module.runs, plain = (lambda _: {("erm", 0): PlannedRun(tiny())}), module.run
    module.run, module.TIMED = (lambda settings, _: plain(settings)), timed
    execution.execute("fake", "cpu", tmp_path, workers=3)
    expected = (1, False) if timed else (3, None)
    assert (received["workers"], received["together"]) == expected


def test_experiments_on_the_same_networks_train_them_once(tmp_path, monkeypatch):
    """Those of one recipe; another one has a folder of its own."""
    folders = {}

    def train(runs, folder, *_, **__):
        for key, run in runs.items():
            there = folders.setdefault((folder, key), run.config.to_json())
            assert there == run.config.to_json()  # or the second would be refused
        return {}

    monkeypatch.setattr(training, "train", train)
    names = [n for n in registry.names() if hasattr(registry.load(n), "SHARED")]
    assert {"fig7", "fig13a", "robust_table"} < set(names)
    for name in names:
        module = registry.load(name)
        for scale in module.SCALES:
            execution._inputs(module, scale, tmp_path / name, 1)
    assert {folder.relative_to(tmp_path).as_posix() for folder, _ in folders} == {
        f"adversarial/{name}/runs"
        for name in ("smoke", "cpu", "fashion", "paper", "long")
    }
    assert {"at", "sam", "gce", "pairing", "noisy_sam"} < {key[0] for _, key in folders}


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
    module.run = lambda settings: {"bad": np.array([np.nan])}
    module.judge = lambda settings, arrays: []
    with pytest.raises(ValueError, match="'bad'"):
        execution.execute("fake", "cpu", tmp_path)
    assert not (tmp_path / "arrays.npz").exists()


def test_a_check_recomputes_what_the_arrays_say_and_writes_nothing(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    assert execution.check(tmp_path) == ("fake", 3, [])
    with np.load(tmp_path / "arrays.npz") as saved:
        changed = {**saved, "runs": np.full((3, 4), 7.0)}
    np.savez(tmp_path / "arrays.npz", **changed)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (odd,) = execution.check(tmp_path).odd
    assert odd == "two: measured 7.0, saved 2.0; verdict 'contrary', saved 'holds'"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_check_tells_claims_that_came_or_went(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path)
    path = tmp_path / "claims.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[:2]))
    assert execution.check(tmp_path).odd == ["a new claim: mean"]
    path.write_text(json.dumps([*rows, {**rows[0], "claim": "old"}]))
    assert execution.check(tmp_path).odd == ["no longer a claim: old"]


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04"])
def test_the_command_checks_all_folders_and_names_what_is_damaged(
    module, tmp_path, capsys, content
):
    for name in ("a", "b"):
        execution.execute("fake", "cpu", tmp_path / name)
    if content is None:
        (tmp_path / "a" / "arrays.npz").unlink()
    else:
        (tmp_path / "a" / "arrays.npz").write_bytes(content)
    assert cli.main(["check", f"--results={tmp_path}"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert f"a/arrays.npz {'is missing' if content is None else 'cannot be'}" in first
    assert second.endswith("b: 3 claims as saved")
    assert cli.main(["check", f"--results={tmp_path / 'b'}"]) == 0


@pytest.mark.parametrize("file", ["claims.json", "settings.json"])
@pytest.mark.parametrize("content", ["[{}]", "{}", "null", "[1]", "3", "{", "\xff"])
@pytest.mark.parametrize("command", ["report", "check"])
def test_damaged_files_end_in_one_line_that_names_them(
    module, tmp_path, capsys, file, content, command
):
    execution.execute("fake", "cpu", tmp_path)
    (tmp_path / file).write_bytes(content.encode("latin-1"))
    assert cli.main([command, f"--results={tmp_path}"]) in (1, 2)
    said = capsys.readouterr()
    (line,) = (said.out + said.err).splitlines()
    assert str(tmp_path / file) in line


def test_results_are_kept_where_they_cannot_be_judged(module, tmp_path):
    module.judge = lambda settings, arrays: 1 / 0
    with pytest.raises(ZeroDivisionError):
        execution.execute("fake", "cpu", tmp_path)
    assert (tmp_path / "arrays.npz").exists()


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert execution.environment()["commit"] == "unknown"
