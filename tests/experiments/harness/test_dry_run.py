"""The paper's settings, checked against what App. C prints, without training."""

import dataclasses
import re

import pytest

from configs import cifar10, cifar_gce
from experiments import __main__ as cli
from experiments.harness import dry_run, registry, training
from experiments.harness.runs import PlannedRun
from sam_jax.training import configuration, startup
from tests.training.problems import tiny


@pytest.fixture(autouse=True)
def nothing_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))


DEEP = [name for name in registry.names() if hasattr(registry.load(name), "runs")]


def test_every_deep_experiment_is_there():
    assert {
        *("fig2", "fig3", "fig10", "fig11", "m_sharpness", "m_norms", "peers"),
        *("table1", "table1_factors", "table2"),
    } <= set(DEEP)


@pytest.mark.program
@pytest.mark.parametrize("name", DEEP)
def test_the_paper_scale_is_described(name, capsys):
    assert cli.main(["run", name, "--scale=paper", "--dry_run"]) == 0
    text = capsys.readouterr().out
    table, others, totals = text.split("\n\n")
    rows = {line.split()[0] for line in table.splitlines()[2:]}
    named = set(others.replace("\n", " ").rstrip(".").split(": ")[1].split(", "))
    assert rows | named == set(configuration.KEYS)
    assert not rows & named
    assert dry_run.PAPER.keys() <= rows
    assert "steps in all" in totals


@pytest.mark.parametrize(
    ("config", "classes", "printed"),
    [
        (cifar10.get_config(), 10, 11.17e6),
        (cifar_gce.get_config(), 10, 21.28e6),
        (cifar_gce.get_config("cifar100"), 100, 21.33e6),
    ],
)
def test_parameter_counts(config, classes, printed):
    received = dry_run.parameters(configuration.check(config), classes, (32, 32, 3))
    assert received == pytest.approx(printed, rel=0.01)


def test_the_number_of_steps():
    # 45,000 of 50,000 images train, 351 batches of 128 an epoch; two classes: 9,000,
    # 35 batches of 256.
    text = dry_run.describe("table1", "paper")
    assert "57 runs of 3,500 steps" in text  # 3 seeds (1 + 3 methods of 6 rho)
    text = dry_run.describe("fig2", "paper")
    assert "35,100 to 351,000 steps" in text  # a switched run costs its last tenth


def test_hours_are_the_steps_of_each_method_times_its_seconds(monkeypatch):
    """Of erm and sam, two seeds: a step takes a quarter of an hour, or half of one, and
    an evaluation an hour: after epochs 2, 4 and 5 of 5.
    """
    seconds = {"erm": (900.0, 3600.0), "sam": (1800.0, 3600.0)}
    monkeypatch.setattr(dry_run, "_seconds", lambda run: seconds[run.config.sam.kind])
    changes = {"epochs": 5, "eval__every_epochs": 2}
    runs = {
        (kind, seed): PlannedRun(tiny(sam__kind=kind, seed=seed, **changes))
        for kind in seconds
        for seed in (0, 1)
    }
    (each,) = {dry_run.steps(run) for run in runs.values()}
    expected = 2 * each * (0.25 + 0.5) + 4 * 3
    # One that goes on from epoch 3 has but the evaluations after 4 and 5.
    late = runs["sam", 0]._replace(parent=("erm", 0), epoch=3)
    runs["late", 0] = late
    expected += dry_run.steps(late) * 0.5 + 2
    assert dry_run._hours(runs).startswith(f"About {expected:.1f} hours here")


def test_runs_that_differ_in_numbers_and_length_are_timed_once():
    alike = (
        {"sam__rho": 0.3},
        {"seed": 4},
        {"epochs": 9},
        {"data__noise__fraction": 0.5},
        {"schedule__peak": 0.2},
        {"eval__every_epochs": 2},
    )
    here = dry_run._program(PlannedRun(tiny(sam__kind="sam")))
    for changes in alike:
        assert dry_run._program(PlannedRun(tiny(sam__kind="sam", **changes))) == here
    others = (
        {"sam__kind": "asam"},
        {"batch_size": 4},
        {"model__width": 9},
        {"sam__kind": "sam", "ema__decay": 0.9},
        {"sam__kind": "sam", "eval__examples": 20},
        {"sam__kind": "sam", "data__validation_fraction": 0.2},
    )
    for changes in others:
        assert dry_run._program(PlannedRun(tiny(**changes))) != here


def test_steps_are_timed_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for seconds in dry_run._seconds(PlannedRun(tiny(sam__kind="sam", ema__decay=0.9))):
        assert 0 < seconds < 60
    assert list(tmp_path.iterdir()) == []


def test_hours_of_data_that_are_not_here_are_not_known():
    text = dry_run.describe("fig3", "paper")
    assert "How long they take is not known: Data set 'cifar10'" in text


def test_a_smaller_set_takes_fewer_steps():
    config = tiny(data__train_examples=200, data__resize=4, epochs=3)
    assert dry_run.shape(configuration.check(config)) == (200, 10, (4, 4, 1))
    train = 200 - round(config.data.validation_fraction * 200)
    assert dry_run.steps(PlannedRun(config)) == 3 * (train // config.batch_size)


def test_the_settings_of_table_1():
    values = registry.settings("table1", "paper")
    expected = {
        "batch_size": 256,
        "sam.m": 64,
        "model.width": 16,
        "data.classes": ["horse", "automobile"],
        "data.noise.fraction": 0.8,
        "optimizer.momentum": 0.9,
        "l2": 0.0005,
        "schedule.peak": 0.1,
        "rho": [0.001, 0.003, 0.01, 0.03, 0.1, 0.2],
        "seeds": [0, 1, 2],
    }
    assert {key: values[key] for key in expected} == expected


def test_the_settings_of_table_2():
    values = registry.settings("table2", "paper")
    expected = {
        "model.name": "preact_resnet34",
        "schedule.name": "cosine",
        "epochs": 200,
        "loss.q": 0.7,
        "ema.decay": 0.999,
        "batch_size": 128,
        "noise": [40, 60],
        "rho": [0.025, 0.05, 0.1, 0.2, 0.3, 0.4],
    }
    assert {key: values[key] for key in expected} == expected


def test_experiments_without_runs_show_their_settings(capsys):
    assert cli.main(["run", "implicit_bias", "--scale=smoke", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^setting +at smoke +at paper$", text, re.MULTILINE)
    assert re.search(r"^seeds +1 +100$", text, re.MULTILINE)
    assert dry_run.UNTRAINED in text


def test_missing_cifar_is_said_with_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(startup, "use_compilation_cache", lambda: None)
    out = tmp_path / "out"
    assert cli.main(["run", "fig2", "--scale=paper", f"--out={out}"]) == 2
    error = capsys.readouterr().err
    assert "make data NAME=cifar10" in error
    assert len(error.splitlines()) == 1


def test_runs_of_other_settings_are_refused_before_any_training(tmp_path):
    first = registry.load("table1").SCALES["smoke"]
    training.train(_first_cell(first), tmp_path / "runs", lambda _: None)
    changed = dataclasses.replace(first, changes={**first.changes, "l2": 0.1})
    with pytest.raises(ValueError, match=r"another config .*l2: 0\.0005 -> 0\.1"):
        training.train(_first_cell(changed), tmp_path / "runs", lambda _: None)


def _first_cell(settings):
    return dict(list(registry.load("table1").runs(settings).items())[:1])
