"""What a tracker is called with, by modules that stand in for the packages.

Each stand-in takes the arguments that the package's documentation lists, and no other.
"""

import json
import sys
import types

import pytest

from sam_jax.training import trackers
from sam_jax.training.configuration import ConfigError
from sam_jax.training.errors import TrainingError
from sam_jax.training.writer import Writer

CONFIG = {"sam": {"rho": 0.1, "kind": "sam"}, "epochs": 3}
RECORD = {"epoch": 1, "step": 20, "test_error": 0.25, "seconds": 1.5}
VALUES = {"test_error": 0.25, "seconds": 1.5}


class Run:
    """A run of wandb or trackio, which are alike; of mlflow the id alone."""

    def __init__(self, calls, identity):
        self.calls = calls
        self.info = types.SimpleNamespace(run_id=identity)

    def log(self, values, step=None):
        self.calls.append(("log", values, step))

    def finish(self):
        self.calls.append(("finish",))


def wandb(calls):
    def init(*, project, name, id, resume, config):
        calls.append(("init", project, name, id, resume, config))
        return Run(calls, id)

    return {"init": init}


def trackio(calls):
    def init(project, name=None, resume="never", config=None):
        calls.append(("init", project, name, name, resume, config))
        return Run(calls, name)

    return {"init": init}


def mlflow(calls):
    def start_run(run_id=None, run_name=None):
        calls.append(("start_run", run_id, run_name))
        return Run(calls, run_id or "made")

    return {
        "set_experiment": lambda name: calls.append(("set_experiment", name)),
        "start_run": start_run,
        "log_params": lambda params: calls.append(("log_params", params)),
        "log_metrics": lambda values, step: calls.append(("log", values, step)),
        "end_run": lambda: calls.append(("finish",)),
    }


@pytest.fixture
def install(monkeypatch):
    """Installs a stand-in; returns the list of its calls."""
    for name in ("WANDB_PROJECT", "TRACKIO_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)

    def add(name, functions):
        calls = []
        module = types.ModuleType(name)
        module.__dict__.update(functions(calls))
        module.__spec__ = types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, module)
        return calls

    return add


def write(workdir, tracker, start=0):
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(CONFIG))
    with Writer(workdir, start, active=True, tracker=tracker) as records:
        records.write({**RECORD, "epoch": start + 1})


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_goes_on_as_the_same_one(name, install, tmp_path):
    calls = install(name, {"wandb": wandb, "trackio": trackio}[name])
    write(tmp_path / "run", name)
    write(tmp_path / "run", name, start=1)
    first, second = (call for call in calls if call[0] == "init")
    _, project, label, identity, resume, config = first
    assert (project, resume, config) == ("sam_jax", "allow", CONFIG)
    assert label.startswith("run")
    assert identity
    assert second == first
    assert calls.count(("log", VALUES, 20)) == 2
    assert calls.count(("finish",)) == 2


def test_mlflow_gets_its_parameters_once(install, tmp_path):
    calls = install("mlflow", mlflow)
    write(tmp_path / "run", "mlflow")
    write(tmp_path / "run", "mlflow", start=1)
    assert calls == [
        ("set_experiment", "sam_jax"),
        ("start_run", None, "run"),
        ("log_params", {"sam.rho": 0.1, "sam.kind": "sam", "epochs": 3}),
        ("log", VALUES, 20),
        ("finish",),
        ("set_experiment", "sam_jax"),
        ("start_run", "made", None),
        ("log", VALUES, 20),
        ("finish",),
    ]


def test_two_directories_are_two_runs(install, tmp_path):
    calls = install("wandb", wandb)
    write(tmp_path / "a", "wandb")
    write(tmp_path / "b", "wandb")
    first, second = (call for call in calls if call[0] == "init")
    assert first[3] != second[3]


def test_an_unknown_tracker_and_one_that_is_not_installed(monkeypatch):
    with pytest.raises(ConfigError, match="'comet'; known: wandb, mlflow, trackio"):
        trackers.check("comet")
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install mlflow, or 'sam_jax"):
        trackers.check("mlflow")
    trackers.check("")


def test_a_tracker_that_starts_no_run_is_one_line(install, tmp_path):
    def init(**_):
        raise OSError("no server\nmore")

    install("wandb", lambda calls: {"init": init})
    with pytest.raises(
        TrainingError, match=r"wandb starts no run: OSError: no server$"
    ):
        write(tmp_path / "run", "wandb")


def test_a_tracker_that_fails_ends_no_run(install, tmp_path, capsys, monkeypatch):
    install("wandb", wandb)
    monkeypatch.setattr(Run, "log", lambda *_, **__: 1 / 0)
    write(tmp_path / "run", "wandb")
    said = capsys.readouterr().err
    assert said == "The tracker is given up: ZeroDivisionError: division by zero\n"
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1
