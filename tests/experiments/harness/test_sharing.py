"""Runs that others have trained."""

import json

from experiments.harness import sharing
from experiments.harness.runs import PlannedRun, finished
from sam_jax.training import configuration, writer
from tests.training.problems import tiny


def leave(workdir, config, error):
    """What a finished run leaves in its folder."""
    writer.claim(workdir, configuration.plain(configuration.check(config)))
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
