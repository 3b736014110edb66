import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import submitit

from experiments import __main__ as cli
from experiments.harness import sweep, training
from experiments.harness.runs import folder_name
from sam_jax.training import startup

pytestmark = pytest.mark.program

RECIPE = """
from tests.training.problems import tiny


def get_config(names=""):
    return tiny(sam__kind="sam")
"""


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    monkeypatch.setattr(startup, "use_compilation_cache", lambda: None)
    path = tmp_path / "recipe.py"
    path.write_text(RECIPE)
    return str(path)


def command(recipe, out, grid, *others):
    return cli.main(
        ["sweep", f"--config={recipe}", f"--grid={grid}", f"--out={out}", *others]
    )


def test_hazard_14_a_rho_sweep_is_one_command(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(recipe, out, "sam.rho=[0.0, 2.0]; seed=[0, 1]") == 0
    text = capsys.readouterr().out
    assert "4/4 sam.rho=2.0/seed=1: validation" in text
    header, _, best, worse, said, end, _ = text.splitlines()[4:]
    assert header.split()[:2] == ["setting", "validation,"]
    assert best.count("±") == worse.count("±") == 3
    saved = json.loads((out / "sweep.json").read_text())
    means = [sum(row) / 2 for row in saved["errors"]["validation_error_best"]]
    chosen = [0.0, 2.0][means.index(min(means))]
    assert saved["chosen"] == {"sam.rho": chosen}
    assert best.startswith(f"sam.rho={chosen}")
    assert said == (
        "Chosen by the mean error on the noisy validation set: "
        f"--config.sam.rho={chosen}"
    )
    assert "ends the grid of sam.rho" in end
    assert (out / "heat_map.png").read_bytes().startswith(b"\x89PNG")


def test_a_choice_inside_its_grid_is_no_edge():
    axes = {"sam.rho": [0.1, 0.2, 0.3], "sam.kind": ["asam", "sam"], "l2": [0.1]}
    best = {"sam.rho": 0.2, "sam.kind": "sam", "l2": 0.1}
    assert sweep.choice(best, axes).splitlines() == [
        "Chosen by the mean error on the noisy validation set: --config.sam.rho=0.2 "
        "--config.sam.kind=sam --config.l2=0.1"
    ]


def test_the_same_command_again_trains_nothing(recipe, tmp_path, capsys):
    grid = "seed=[0]; sam.rho=[0.1]; l2=[0.0, 0.1]"
    assert command(recipe, tmp_path / "out", grid) == 0
    first = capsys.readouterr().out
    assert command(recipe, tmp_path / "out", grid) == 0
    assert capsys.readouterr().out == "\n".join(first.splitlines()[2:]) + "\n"


def test_the_table_does_not_depend_on_the_order_of_the_axes(recipe, tmp_path):
    grids = ["sam.rho=[0.1, 2.0]; seed=[0, 1]", "seed=[0, 1]; sam.rho=[0.1, 2.0]"]
    saved = []
    for i, grid in enumerate(grids):
        command(recipe, tmp_path / str(i), grid)
        record = json.loads((tmp_path / str(i) / "sweep.json").read_text())
        saved.append(record["errors"])
    assert saved[0] == saved[1]


@pytest.mark.heavy
def test_cells_go_through_submitit(recipe, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "experiments", "sweep", f"--config={recipe}"]
    command += ["--grid=sam.rho=[0.1, 0.2]", f"--out={out}", "--cluster=local"]
    environment = os.environ | {"PYTHONPATH": ".", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1/2 " not in done.stdout  # read, not trained here
    assert len(list(out.glob("runs/*/summary.json"))) == 2
    assert list(out.glob("jobs/*_result.pkl"))


@pytest.mark.heavy
def test_a_job_that_is_warned_is_queued_again_and_goes_on(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("PYTHONPATH", ".")
    planned = sweep.plan(sweep.read_recipe(recipe), {"epochs": [60]})
    (key,) = planned
    training.train(planned, tmp_path / "whole")
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    job = executor.submit(sweep.Job(), key, planned[key], tmp_path / "runs")
    metrics = tmp_path / "runs" / folder_name(key) / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert not job.done()
        time.sleep(0.05)
    controller = job._process.pid
    task = pathlib.Path(f"/proc/{controller}/task/{controller}/children").read_text()
    os.kill(int(task), signal.SIGUSR2)
    job.result()
    assert "Requeued job" in job.stdout()
    assert records(tmp_path / "runs", key) == records(tmp_path / "whole", key)


def records(folder, key):
    """What a run has measured after each epoch, without the times."""
    lines = (folder / folder_name(key) / "metrics.jsonl").read_text().splitlines()
    return [
        {name: v for name, v in json.loads(line).items() if "second" not in name}
        for line in lines
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("sam.roh=[1]", r"did you mean 'sam\.rho'"),
        ("sam.rho=0.1", r"give KEY=\[VALUE, \.\.\.\]"),
        ("sam.rho", r"give KEY=\[VALUE, \.\.\.\]"),
        ("", "empty --grid"),
        ("sam.rho=[-1.0]", r"Received sam\.rho=-1\.0; it must be"),
    ],
)
def test_wrong_grids_end_in_one_line(recipe, tmp_path, capsys, grid, message):
    assert command(recipe, tmp_path / "out", grid) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_wrong_recipes_and_clusters(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"no file configs/none\.py"):
        sweep.read_recipe("configs/none.py:sam")
    with pytest.raises(ValueError, match="--cluster='pbs'; it is one of"):
        sweep.sweep(recipe, {"seed": [0]}, tmp_path, "pbs")


@pytest.mark.parametrize(
    "values",
    ["'ab'", "{1: 2}", "[[1], [2]]", "[1e400]", "[.1, .1]", "[1, 1.0]", "[" * 500],
)
def test_values_that_are_no_axis_are_refused(values):
    with pytest.raises(ValueError, match=r"different finite numbers or words"):
        sweep.parse_grid(f"sam.rho={values}")


def test_a_key_is_given_once():
    with pytest.raises(ValueError, match=r"Received seed twice in --grid"):
        sweep.parse_grid("seed=[0]; sam.rho=[.1]; seed=[1]")
