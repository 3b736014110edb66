"""Runs side by side: the same results, in order of parents, and nothing left behind."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments.harness import jobs, training
from experiments.harness.runs import PlannedRun
from sam_jax.training.errors import TrainingError
from tests.training.problems import tiny

pytestmark = pytest.mark.program

SKIPPED = ("seconds", "device")
ROOT = pathlib.Path(__file__).parents[3]


def attempt(key, plan, folder):
    """Stands for a training run: leaves a file, or fails as its key says."""
    what, number = key
    if what == "broken":
        raise ValueError("no good")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "child":
        assert (folder / f"parent{number}").exists()
    if what == "endless":
        (folder / f"pid{number}").write_text(str(os.getpid()))
        time.sleep(600)
    (folder / f"{what}{number}").write_text("")
    return f"{what} done on {len(jobs.cores())} cores"


def test_parents_come_first_and_a_failure_costs_its_own_children_alone(tmp_path):
    plan = PlannedRun(None)
    planned = {
        ("child", 1): PlannedRun(None, ("parent", 1)),
        ("parent", 1): plan,
        ("broken", 1): plan,
        ("killed", 1): plan,
        ("child", 2): PlannedRun(None, ("broken", 1)),
        ("parent", 2): plan,
    }
    told = {}
    failures = jobs.train(planned, tmp_path, attempt, 2, told.__setitem__)
    assert set(told) == {("child", 1), ("parent", 1), ("parent", 2)}
    share = max(len(jobs.cores()) // 2, 1)
    assert told["parent", 2] == f"parent done on {share} cores"
    assert failures == {
        ("broken", 1): "ValueError: no good",
        ("killed", 1): "its process ended with status -9",
        ("child", 2): "the run it goes on from failed: ValueError: no good",
    }


def test_children_of_nothing_but_failures_are_waited_for_by_nobody(tmp_path):
    planned = {
        ("broken", 1): PlannedRun(None),
        ("child", 1): PlannedRun(None, ("broken", 1)),
    }
    failures = jobs.train(planned, tmp_path, attempt, 2, print)
    assert failures.keys() == planned.keys()


def test_runs_side_by_side_are_those_one_after_another(tmp_path):
    planned = {("sam", seed): PlannedRun(tiny(epochs=1, seed=seed)) for seed in (0, 1)}
    results = {}
    for workers in (1, 2):
        lines = []
        folder = tmp_path / str(workers)
        trained = training.train(planned, folder, lines.append, workers=workers)
        assert sorted(line[:10] for line in lines) == ["1/2 sam/0:", "2/2 sam/1:"]
        results[workers] = {
            key: {k: v for k, v in run.summary.items() if k not in SKIPPED}
            for key, run in trained.items()
        }
    assert results[1].keys() == results[2].keys()
    for key, expected in results[1].items():
        assert results[2][key] == pytest.approx(expected, rel=1e-9)


def test_fleets_side_by_side_are_their_runs_alone(tmp_path):
    planned = {
        (kind, seed): PlannedRun(tiny(epochs=1, seed=seed, sam__kind=kind))
        for kind in ("erm", "sam")
        for seed in (0, 1)
    }
    alone = training.train(planned, tmp_path / "alone", print)
    lines, folder = [], tmp_path / "fleets"
    how = {"workers": 2, "together": True}
    found = training.train(planned, folder, lines.append, **how)
    assert sorted(line[:3] for line in lines) == ["1/4", "2/4", "3/4", "4/4"]
    for key, run in alone.items():
        for name, value in run.summary.items():
            if name not in SKIPPED:
                assert found[key].summary[name] == pytest.approx(value, rel=1e-9)


def test_a_run_that_cannot_be_trained_does_not_end_the_others(tmp_path):
    planned = {
        ("bad",): PlannedRun(tiny(model__name="resnet5")),
        ("good",): PlannedRun(tiny(epochs=1)),
    }
    lines = []
    with pytest.raises(TrainingError, match=r"1 of 2 runs .*bad: Unknown model"):
        training.train(planned, tmp_path, lines.append)
    assert lines[0].startswith("2/2 good: validation")
    assert (tmp_path / "good" / "summary.json").exists()


WORKERS = """
import pathlib, sys
from experiments.harness import jobs, processes
from experiments.harness.runs import PlannedRun
from tests.experiments.harness.test_jobs import attempt
if __name__ == "__main__":
    processes.exit_on_sigterm()
    planned = {("endless", i): PlannedRun(None) for i in range(2)}
    jobs.train(planned, pathlib.Path(sys.argv[1]), attempt, 2, print)
"""
CHILD = """
import sys, time
from experiments.harness import processes
SLEEPER = '''
import os, pathlib, sys, time
for i in range(2):
    pathlib.Path(sys.argv[1], f"pid{i}").write_text(str(os.getpid()))
time.sleep(600)
'''
if __name__ == "__main__":
    processes.exit_on_sigterm()
    with processes.child([sys.executable, "-c", SLEEPER, sys.argv[1]]):
        time.sleep(600)
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def soon(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# A stranger's program, as CHILD starts one, does not watch its parent.
@pytest.mark.parametrize(
    ("script", "number"),
    [(WORKERS, signal.SIGTERM), (WORKERS, signal.SIGKILL), (CHILD, signal.SIGTERM)],
    ids=["workers, SIGTERM", "workers, SIGKILL", "child, SIGTERM"],
)
def test_a_command_leaves_no_process_behind(tmp_path, script, number):
    command = tmp_path / "command.py"
    command.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    files = [tmp_path / f"pid{i}" for i in range(2)]
    with subprocess.Popen(
        [sys.executable, command, tmp_path], env=environment, cwd=ROOT
    ) as process:
        soon(lambda: all(f.exists() and f.read_text() for f in files), seconds=60)
        process.send_signal(number)
        expected = {signal.SIGTERM: 143, signal.SIGKILL: -9}
        assert process.wait(timeout=20) == expected[number]
    pids = [int(file.read_text()) for file in files]
    soon(lambda: not any(map(is_alive, pids)), seconds=10)
