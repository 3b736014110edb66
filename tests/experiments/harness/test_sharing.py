"""Runs that were trained elsewhere."""

import json

import pytest

from experiments.harness import sharing
from experiments.harness.runs import Measurement, PlannedRun, finished, unfinished
from sam_jax.training import configuration, loop, writer
from tests.training.problems import tiny

MEASUREMENT = Measurement("measured.json", lambda workdir: workdir.name, {})


def leave(workdir, config, error):
    """What a finished run leaves in its folder."""
    loop.prepare(config, workdir)
    (workdir / "metrics.jsonl").write_text("")
    (workdir / "summary.json").write_text(json.dumps({"test_error_last": error}))


def test_runs_of_equal_configurations_are_taken_and_no_others(tmp_path):
    other, folder = tmp_path / "other" / "runs", tmp_path / "runs"
    leave(other / "sam/0.1/0", tiny(sam__rho=0.1), 0.25)
    leave(other / "sam/0.2/0", tiny(sam__rho=0.2), 0.5)
    planned = {
        ("mine", 0.1, 0): PlannedRun(tiny(sam__rho=0.1)),
        ("mine", 0.3, 0): PlannedRun(tiny(sam__rho=0.3)),
        ("branch", 0.2, 0): PlannedRun(tiny(sam__rho=0.2), parent=("mine", 0.1, 0)),
    }
    missing = tmp_path / "none"
    assert sharing.take(planned, folder, [missing, other]) == [("mine", 0.1, 0)]
    run = finished(planned["mine", 0.1, 0], folder / "mine/0.1/0")
    assert run is not None
    assert run.figure("test_error_last") == 0.25
    for key in list(planned)[1:]:
        assert finished(planned[key], folder / "/".join(map(str, key))) is None
    assert sharing.take(planned, folder, [other]) == []


def test_an_archive_has_what_is_finished_however_the_work_ends(tmp_path):
    planned = {
        ("a", seed): PlannedRun(tiny(seed=seed), then=MEASUREMENT) for seed in range(5)
    }
    here, archive = tmp_path / "here", tmp_path / "results" / "runs.cpu.tar.xz"

    def work():
        leave(here / "a/0", tiny(seed=0), 0.25)
        (here / "a/0" / "checkpoints").mkdir()
        MEASUREMENT.of(here / "a/0")
        leave(here / "a/1", tiny(seed=1), 0.5)
        (here / "a/1" / "summary.json").rename(here / "a/1" / "failure.json")
        writer.claim(here / "a/2", configuration.plain(tiny(seed=2)))
        leave(here / "a/4", tiny(seed=4), 0.5)  # trained, and not yet measured
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), sharing.kept(planned, here, archive):
        work()
    there = tmp_path / "there"
    with sharing.kept(planned, there, archive):
        assert list(unfinished(planned, there)) == [("a", 2), ("a", 3), ("a", 4)]
        assert (
            finished(planned["a", 0], there / "a/0").figure("test_error_last") == 0.25
        )
        assert finished(planned["a", 1], there / "a/1").summary == {}
        assert not (there / "a/0/checkpoints").exists()
        leave(there / "a/2", tiny(seed=2), 0.125)
        MEASUREMENT.of(there / "a/2")
    before = archive.read_bytes()
    with sharing.kept(planned, tmp_path / "third", archive):
        assert list(unfinished(planned, tmp_path / "third")) == [("a", 3), ("a", 4)]
    assert archive.read_bytes() == before  # the same runs, the same bytes


def test_an_archive_is_made_now_and_then(tmp_path, monkeypatch):
    planned, archive = {("a", 0): PlannedRun(tiny(seed=0))}, tmp_path / "a.tar.xz"
    with sharing.kept(planned, tmp_path / "here", archive) as keep:
        leave(tmp_path / "here/a/0", tiny(seed=0), 0.25)
        keep()
        assert not archive.exists()
        monkeypatch.setattr(sharing, "EVERY", 0.0)
        keep()
        assert archive.exists()


def test_a_run_that_is_not_measured_is_not_taken(tmp_path):
    leave(tmp_path / "other/0", tiny(), 0.25)
    planned = {("a",): PlannedRun(tiny(), then=MEASUREMENT)}
    assert sharing.take(planned, tmp_path / "runs", [tmp_path / "other"]) == []
    MEASUREMENT.of(tmp_path / "other/0")
    assert sharing.take(planned, tmp_path / "runs", [tmp_path / "other"]) == [("a",)]
    assert finished(planned["a",], tmp_path / "runs/a") is not None


def test_an_archive_that_is_damaged_or_of_other_settings_is_refused_and_left(tmp_path):
    archive = tmp_path / "runs.cpu.tar.xz"
    planned = {("a", 0): PlannedRun(tiny(seed=0))}
    with sharing.kept(planned, tmp_path / "here", archive):
        leave(tmp_path / "here/a/0", tiny(seed=0), 0.25)

    def refused(planned, words):
        before = archive.read_bytes()
        kept = sharing.kept(planned, tmp_path / "there", archive)
        with pytest.raises(ValueError, match=words):
            kept.__enter__()
        assert archive.read_bytes() == before

    others = {("a", 0): PlannedRun(tiny(seed=0, epochs=7))}
    refused(others, r"has 1 runs of other settings, such as a/0; move it away")
    going_on = {("a", 0): PlannedRun(tiny(seed=0), parent=("b", 0))}
    refused(going_on, "Runs that go on from others")
    whole, half = archive.read_bytes(), len(archive.read_bytes()) // 2
    for damaged in (whole[:half], whole[:half] + bytes(9) + whole[half + 9 :], b""):
        archive.write_bytes(damaged)
        refused(planned, r"cannot be read .* remove it to train")


def test_an_archive_of_other_data_is_refused(tmp_path, monkeypatch):
    """Such as the sources of another Python."""
    planned = {("a", 0): PlannedRun(tiny(seed=0))}
    here, archive = tmp_path / "here", tmp_path / "a.tar.xz"
    with sharing.kept(planned, here, archive):
        leave(here / "a/0", tiny(seed=0), 0.25)
        (here / "a/0" / "data.json").write_text('{"checksum": 1}')
    with pytest.raises(ValueError, match=r"runs on data that are not there: .* is \d+"):
        sharing.kept(planned, tmp_path / "there", archive).__enter__()
