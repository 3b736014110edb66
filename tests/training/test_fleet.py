import json
import signal

import numpy as np
import pytest

from sam_jax.analysis import restore
from sam_jax.training import checkpoint, fleet, loop, writer
from sam_jax.training.errors import Interrupted, NonFiniteLoss, TrainingError
from tests.training.problems import tiny

VARIED = ({}, {"seed": 1, "sam__rho": 0.3}, {"l2": 0.0, "schedule__peak": 0.05})


def configs(varied=VARIED, **changes):
    return [tiny(**{"sam__kind": "sam", **changes, **some}) for some in varied]


def prepare(folder, **changes):
    planned = [(c, folder / str(i)) for i, c in enumerate(configs(**changes))]
    return fleet.prepare(planned)


def final_state(workdir):
    with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
        return saved.restore().state


SMALL = {"batch_size": 128, "eval__batch_size": 512}
CONVOLUTIONAL = {"model__name": "conv_net", "model__widths": (4, 6), **SMALL}
ATTACKED = {
    "attack__kind": "adversarial",
    "attack__eps": 0.1,
    "attack__step_size": 0.05,
}
CASES = {
    "late ascent": {"sam__start_epoch": 1},
    "noise and an average": {"ema__decay": 0.5, "data__noise__fraction": 0.4},
    "examples that the seed chooses": {"data__train_examples": 500, **SMALL},
    "convolutions": CONVOLUTIONAL,
    "groups of examples": {**CONVOLUTIONAL, "sam__kind": "sum_max", "sam__m": 4},
    "BatchNorm": {
        "model__name": "preact_resnet10",
        "model__width": 2,
        "epochs": 1,
        "ema__decay": 0.5,
        **SMALL,
    },
    "attacks": {**CONVOLUTIONAL, **ATTACKED, "attack__eval_steps": 2, "epochs": 1},
    "noise of some, and so other parts": {
        "varied": ({}, {"data__noise__fraction": 0.4}),
    },
}


SLOW = ("groups of examples", "BatchNorm", "attacks")  # to compile


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.program if c in SLOW else ()) for c in CASES],
)
def test_a_fleet_is_its_runs_one_by_one(tmp_path, case):
    changes = CASES[case]
    received = fleet.train(prepare(tmp_path / "fleet", **changes))
    for i, config in enumerate(configs(**changes)):
        expected = loop.run(config, tmp_path / "alone" / str(i), silent=True)
        for name, value in expected.items():
            if name not in ("seconds", "device"):
                assert received[i][name] == pytest.approx(value, rel=1e-9), name
        states = [final_state(tmp_path / x / str(i)) for x in ("fleet", "alone")]
        for name, array in states[1].items():
            np.testing.assert_allclose(states[0][name], array, rtol=1e-9, atol=1e-12)
        records = [
            writer.read_records(tmp_path / x / str(i) / "metrics.jsonl")
            for x in ("fleet", "alone")
        ]
        for ours, theirs in zip(*records, strict=True):
            assert ours.keys() == theirs.keys()
            assert ours["rho"] == theirs["rho"]
            assert ours["running_loss"] == pytest.approx(theirs["running_loss"])


def test_a_fleet_goes_on_from_an_epoch_that_its_runs_have_saved(tmp_path):
    whole = fleet.train(prepare(tmp_path / "whole", epochs=3, checkpoint__keep=3))
    for i, config in enumerate(configs(epochs=3, checkpoint__keep=3)):
        loop.run(config, tmp_path / "source" / str(i), silent=True)
        restore.branch(tmp_path / "source" / str(i), 1, config, tmp_path / str(i))
    received = fleet.train(prepare(tmp_path, epochs=3, checkpoint__keep=3))
    for ours, theirs in zip(received, whole, strict=True):
        assert ours["epochs"] == 3
        assert ours["test_loss_last"] == pytest.approx(theirs["test_loss_last"])
    records = writer.read_records(tmp_path / "0" / "metrics.jsonl")
    assert [record["epoch"] for record in records] == [1, 2, 3]


SPARSE = {
    "epochs": 6,
    "checkpoint__every_epochs": 3,
    "checkpoint__keep": 2,
    "checkpoint__best": True,
    "eval__every_epochs": 2,
}


def interrupt(monkeypatch, at):
    """Sends this process SIGTERM in an epoch of a fleet."""
    take = fleet._epoch

    def interrupted(*args):
        if args[-1] == at:
            signal.raise_signal(signal.SIGTERM)
        return take(*args)

    monkeypatch.setattr(fleet, "_epoch", interrupted)


def test_an_interrupted_fleet_goes_on_where_it_stopped(tmp_path, monkeypatch):
    failed = []
    planned = configs(({}, {"schedule__peak": 1e300}, {"seed": 1}), **SPARSE)
    folders = [(c, tmp_path / str(i)) for i, c in enumerate(planned)]
    runs = fleet.prepare(folders)
    interrupt(monkeypatch, at=4)
    with pytest.raises(Interrupted, match="after step"):
        fleet.train(runs, lambda run, _: failed.append(run.workdir))
    monkeypatch.undo()
    assert failed == [tmp_path / "1"]
    received = fleet.train(fleet.prepare([folders[0], folders[2]]))
    for ours, i in zip(received, (0, 2), strict=True):
        alone = loop.run(planned[i], tmp_path / "alone" / str(i), silent=True)
        assert ours["test_loss_last"] == pytest.approx(alone["test_loss_last"])
        assert ours["best_epoch"] == alone["best_epoch"]
        with checkpoint.Checkpoints(tmp_path / str(i) / "checkpoints") as saved:
            # what is due stays, whatever else was saved at the interruption
            assert {3, 6, ours["best_epoch"]} <= set(saved.numbers())


def test_a_run_whose_checkpoint_is_damaged_is_in_no_fleet(tmp_path, monkeypatch):
    runs = prepare(tmp_path, epochs=4, checkpoint__keep=2)
    interrupt(monkeypatch, at=2)
    with pytest.raises(Interrupted):
        fleet.train(runs)
    monkeypatch.undo()
    newest = tmp_path / "1" / "checkpoints" / "3"
    for path in (newest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(TrainingError, match="another epoch than the others"):
        fleet.train(prepare(tmp_path, epochs=4, checkpoint__keep=2))


def test_nothing_is_trained_when_all_have_stopped(tmp_path, monkeypatch):
    epochs, take = [], fleet._epoch
    monkeypatch.setattr(
        fleet, "_epoch", lambda *args: epochs.append(args[-1]) or take(*args)
    )
    found = fleet.train(
        prepare(tmp_path, varied=({}, {"seed": 1}), schedule__peak=1e300)
    )
    assert all(isinstance(failure, NonFiniteLoss) for failure in found)
    assert epochs == [0]


def test_a_run_that_diverges_stops_alone(tmp_path):
    runs = prepare(tmp_path)
    config = tiny(sam__kind="sam", schedule__peak=1e300)
    runs[1] = loop.prepare(config, tmp_path / "bad")
    first, bad, last = fleet.train(runs)
    assert isinstance(bad, NonFiniteLoss)
    assert "at step" in str(bad)
    expected = json.loads((tmp_path / "0" / "summary.json").read_text())
    assert first == expected
    assert np.isfinite(last["test_loss_last"])


def test_what_is_no_fleet_is_refused(tmp_path):
    runs = prepare(tmp_path)
    other = loop.prepare(
        tiny(sam__kind="sam", epochs=3, checkpoint__keep=3), tmp_path / "other"
    )

    def fits(some):
        return fleet.fits([(run.config, run.workdir) for run in some])

    assert fits(runs)
    for some in (runs[:1], [*runs, other]):
        assert not fits(some)
        with pytest.raises(ValueError, match=r"may differ in data\.noise\.fraction"):
            fleet.train(some)
    loop.train(runs[0], silent=True)
    assert not fits(runs)  # one of them has begun
