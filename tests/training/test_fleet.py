import json

import numpy as np
import pytest

from sam_jax.training import checkpoint, configuration, fleet, loop, writer
from sam_jax.training.errors import NonFiniteLoss
from tests.training.problems import tiny


def prepare(folder, **changes):
    base = {"sam__kind": "sam"}
    varied = [{}, {"seed": 1, "sam__rho": 0.3}, {"l2": 0.0, "schedule__peak": 0.05}]
    return [
        loop.prepare(tiny(**base, **changes, **some), folder / str(i))
        for i, some in enumerate(varied)
    ]


def final_state(workdir):
    with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
        return saved.restore().state


@pytest.mark.parametrize(
    "changes",
    [{"sam__start_epoch": 1}, {"ema__decay": 0.5, "data__noise__fraction": 0.4}],
)
def test_a_fleet_is_its_runs_one_by_one(tmp_path, changes):
    received = fleet.train(prepare(tmp_path / "fleet", **changes))
    alone = prepare(tmp_path / "alone", **changes)
    for i, run in enumerate(alone):
        expected = loop.train(run, silent=True)
        for name, value in expected.items():
            if name != "seconds":
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
    other = loop.prepare(tiny(sam__kind="sam", epochs=3), tmp_path / "other")

    def fits(some):
        return fleet.fits([(run.config, run.workdir) for run in some])

    assert fits(runs)
    for some in (runs[:1], [*runs, other]):
        assert not fits(some)
        with pytest.raises(ValueError, match=r"may differ in data\.noise\.fraction"):
            fleet.train(some)
    loop.train(runs[0], silent=True)
    assert not fits(runs)  # one of them has begun


def test_runs_on_examples_that_their_seeds_choose_share_none(tmp_path):
    """A fleet has one set of images: with other images they would get other labels."""

    def fits(**changes):
        configs = [configuration.check(tiny(seed=i, **changes)) for i in range(2)]
        return fleet.fits([(c, tmp_path / str(i)) for i, c in enumerate(configs)])

    assert fits()
    assert not fits(data__train_examples=500)
