import json
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags, logging

from sam_jax import train
from sam_jax.training.keys import KEYS

# How ml_collections loads a recipe.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = f"--config={ROOT}/configs/digits.py:smoke"
LINEAR = ["--config.model.name=linear", "--config.sam.rho=0.1"]


@pytest.fixture
def command(monkeypatch):
    """Runs `python -m sam_jax.train` with these arguments; returns the exit status."""
    verbosity = logging.get_verbosity()

    def run(*arguments):
        argv = ["train", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)  # config_flags looks there
        try:
            return train.main(train.parse_flags(argv))
        except SystemExit as end:
            return end.code
        finally:
            for name in [n for n in flags.FLAGS if n.startswith("config.")]:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()
            given = ("config", "workdir", "coordinator", "process_count", "tracker")
            for name in (*given, "dry_run", "quiet"):
                flags.FLAGS[name].unparse()

    yield run
    logging.set_verbosity(verbosity)


def test_a_run_leaves_all_it_should_and_resumes(command, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert command(DIGITS, f"--workdir={workdir}", *LINEAR) == 0
    table = capsys.readouterr().out
    assert re.search(r"SAM +\d+ +\d+\.\d % +\d+\.\d %", table)
    left = {path.name for path in workdir.iterdir()}
    files = {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "curves.png",
        "checkpoints",
    }
    assert files <= left
    assert [name for name in left if "tfevents" in name]
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["name"] == "linear"
    assert config["sam"]["rho"] == 0.1
    summary = json.loads((workdir / "summary.json").read_text())
    assert {"test_error_last", "test_error_best", "seconds", "best_epoch"} <= set(
        summary
    )

    assert command(DIGITS, f"--workdir={workdir}", *LINEAR) == 0
    again = capsys.readouterr()
    assert again.out == table
    assert again.err == ""
    assert command(DIGITS, f"--workdir={workdir}", *LINEAR, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(command, tmp_path, capsys):
    workdir = tmp_path / "run"
    chosen = [*LINEAR, "--config.sam.every=2", "--dry_run"]
    assert command("--config", DIGITS[9:], f"--workdir={workdir}", *chosen) == 0
    said = capsys.readouterr().out
    # 1,293 images in batches of 64 make 20 steps an epoch; 64 pixels, 10 classes.
    for row in ("60, of which 30 ascend", " 650", "1,293"):
        assert f"{row}\n" in said
    for row in ("weights and optimiser", "a step with ascent", "the whole run"):
        assert re.search(rf"{row} .*\d", said)
    assert not workdir.exists()


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpkeys", "--helpfull"])
def test_help_ends_well_and_lists_what_is_ours(command, capsys, flag):
    assert not command(flag)
    said = capsys.readouterr().out
    if flag == "--helpfull":
        assert "--process_id" in said
        return
    assert max(map(len, said.splitlines())) <= 88
    listed = re.findall(r"^  (\S+)$" if flag == "--helpkeys" else r"--\w+", said, re.M)
    if flag == "--helpkeys":
        assert listed == list(KEYS)
        return
    ours = {"config", "workdir", "coordinator", "process_id", "process_count"}
    ours |= {"dry_run", "quiet", "tracker", "verbosity", "helpkeys", "helpfull"}
    assert set(listed) == {f"--{name}" for name in ours}
    assert "configs/digits.py" in said
    assert "logtostderr" not in said


BAD = {
    "no config": ([], "Give --config"),
    "no work directory": ([DIGITS], "Give --workdir"),
    "no such file": (["--config=configs/none.py"], "no file configs/none.py"),
    "unknown variant": (
        [f"--config={ROOT}/configs/digits.py:fast"],
        "Unknown variant 'fast'; this recipe has sam, erm, smoke.",
    ),
    "unknown key": ([DIGITS, "--config.sam.rh=1"], "'sam.rh'; did you mean 'sam.rho'?"),
    "a key without config": (
        [DIGITS, "--rho=1"],
        "Unknown flag --rho: keys of a recipe are given as --config.sam.rho=VALUE.",
    ),
    "a flag misspelt": ([DIGITS, "--quite"], "--quite: did you mean --quiet?"),
    "unknown flag": ([DIGITS, "--zzz=1"], "--help lists all flags"),
    "another kind of SAM": (
        [DIGITS.replace("smoke", "asam")],
        "this recipe has sam, erm, smoke. --config.sam.kind=asam sets any kind of SAM.",
    ),
    "a long warm-up": (
        [DIGITS, "--config.schedule.warmup_epochs=2"],
        "schedule.name, schedule.warmup_epochs: Received warmup_steps=",
    ),
    "unknown tracker": ([DIGITS, "--tracker=comet"], "'comet'; known: wandb, mlflow"),
    "stray argument": ([DIGITS, "extra"], "['extra']"),
    "wrong type": ([DIGITS, "--config.sam.rho=big"], "big"),
    "negative rho": ([DIGITS, "--config.sam.rho=-1"], "Received sam.rho=-1.0"),
    "rho is NaN": ([DIGITS, "--config.sam.rho=nan"], "Received sam.rho=nan"),
    "m": ([DIGITS, "--config.sam.m=7"], "Received m=7 for a batch of 64"),
    "BatchNorm with m = 1": (
        [DIGITS, "--config.sam.m=1", "--config.model.norm=batch"],
        "set model.norm='group'",
    ),
    "unknown model": ([DIGITS, "--config.model.name=vgg"], "Unknown model 'vgg'"),
    "unknown data set": (
        [DIGITS, "--config.data.name=svhn"],
        "Unknown data set 'svhn'",
    ),
    "a recipe that is a folder": (
        [f"--config={ROOT}/configs", "--config.sam.rho=1"],
        "There is a folder",
    ),
    "a recipe that is missing, and an override": (
        ["--config=configs/none.py", "--config.sam.rho=1"],
        "no file configs/none.py",
    ),
    "a recipe that is no Python": (
        [f"--config={ROOT}/README.md", "--config.sam.rho=1"],
        "README.md cannot be run (SyntaxError",
    ),
    "a missing recipe after a blank": (["--config", "none.py:sam"], "no file none.py"),
    "a recipe without get_config": (
        [f"--config={ROOT}/configs/__init__.py"],
        "defines no get_config",
    ),
    "an empty work directory": ([DIGITS, "--workdir="], "an empty --workdir"),
    "a coordinator without a port": (
        [DIGITS, "--coordinator=host", "--process_count=2"],
        "coordinator='host'; give host:port",
    ),
    "several processes without one": ([DIGITS, "--process_count=2"], "a coordinator"),
    "too many devices": ([DIGITS, "--config.devices=99"], "Received devices=99"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_one_line_and_status_2(command, tmp_path, capsys, name):
    arguments, message = BAD[name]
    named = "work directory" in name
    workdir = [] if named else [f"--workdir={tmp_path / 'run'}"]
    assert command(*arguments, *workdir) == 2
    received = capsys.readouterr()
    assert received.out == ""
    assert received.err.startswith("sam_jax.train: ")
    assert received.err.count("\n") == 1
    assert message in received.err
    assert not (tmp_path / "run").exists()


def test_a_work_directory_of_another_config_is_refused(command, tmp_path, capsys):
    workdir = f"--workdir={tmp_path}"
    (tmp_path / "config.json").write_text(json.dumps({"sam": {"rho": 0.2}}))
    assert command(DIGITS, workdir, *LINEAR) == 2
    assert "sam.rho: 0.2 -> 0.1" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_work_directory_that_cannot_be_made_is_one_line(command, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command(DIGITS, f"--workdir={tmp_path / 'file' / 'run'}", *LINEAR) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_loss_that_is_not_finite_is_one_line_and_status_1(command, tmp_path, capsys):
    workdir = f"--workdir={tmp_path / 'run'}"
    assert command(DIGITS, workdir, LINEAR[0], "--config.sam.rho=1e30") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search("is (nan|inf) at step", message)


def test_the_module_is_a_command():
    result = subprocess.run(
        [sys.executable, "-m", "sam_jax.train", DIGITS, "--config.l2=-1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "Give --workdir" in result.stderr
    assert "Traceback" not in result.stderr
