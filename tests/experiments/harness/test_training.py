import gc
import itertools
import json
import weakref

import chex
import jax
import numpy as np
import optax
import pytest

from experiments.harness import runs, training
from experiments.harness.runs import PlannedRun
from sam_jax.analysis import restore
from sam_jax.training import checkpoint, fleet, loop
from sam_jax.training.configuration import ConfigError
from sam_jax.training.errors import CheckpointError, NonFiniteLoss, TrainingError
from tests.training.problems import tiny


def grid(**changes):
    return {
        ("sam", rho, seed): PlannedRun(
            tiny(sam__kind="sam", sam__rho=rho, seed=seed, **changes)
        )
        for rho, seed in itertools.product((0.1, 0.2), (0, 1))
    }


def test_changing_a_copy_leaves_the_recipe_alone():
    base = tiny()
    made = [runs.changed(base, {"sam.rho": rho, "seed": 3}) for rho in (0.3, 0.4)]
    assert [c.sam.rho for c in made] == [0.3, 0.4]
    assert (base.sam.rho, base.seed) == (0.1, 0)
    with pytest.raises(ConfigError, match=r"did you mean 'sam\.rho'"):
        runs.changed(base, {"sam.roh": 1.0})


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
    lines = []
    first = training.train(grid(), tmp_path, lines.append)
    assert len(lines) == 4
    assert lines[0].startswith("1/4 sam/0.1/0: validation")
    monkeypatch.setattr(loop, "run", None)  # not needed
    again = training.train(grid(), tmp_path, lines.append)
    assert len(lines) == 4
    assert again == first
    assert first["sam", 0.1, 0].summary != first["sam", 0.2, 0].summary


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run, calls = loop.run, []

    def interrupted(config, workdir, **options):
        calls.append(config)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(config, workdir, **options)

    monkeypatch.setattr(loop, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(grid(), tmp_path, lambda _: None)
    trained = training.train(grid(), tmp_path, lambda _: None)
    assert len(calls) == 5  # two, the interrupted one, that again and the last
    assert len(trained) == 4


def test_cells_of_other_settings_are_refused(tmp_path):
    training.train(grid(), tmp_path, lambda _: None)
    with pytest.raises(ConfigError, match=r"l2: 0\.0005 -> 0\.1"):
        training.train(grid(l2=0.1), tmp_path, lambda _: None)


def test_a_loss_that_is_not_finite_is_a_result(tmp_path):
    planned = {("erm", "-", 0): PlannedRun(tiny(schedule__peak=1e300))}
    for _ in range(2):
        trained = training.train(planned, tmp_path, lambda _: None)
        run = trained["erm", "-", 0]
        assert run.figure("test_error_best") == 1
        assert run.figure("test_bits_per_byte_last") == 8
        assert runs.describe(run) == "loss not finite"
    assert "Try a smaller" in json.loads((run.workdir / runs.FAILURE).read_text())


def checkpoints(workdir, *, what):
    """A measurement of a run's folder."""
    return [what, len(list((workdir / "checkpoints").iterdir()))]


MEASUREMENT = runs.Measurement("measured.json", checkpoints, {"what": "a"})


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"together": True}])
def test_a_run_is_finished_once_it_is_measured(tmp_path, options):
    planned = {k: p._replace(then=MEASUREMENT) for k, p in grid(epochs=1).items()}
    failing = PlannedRun(tiny(schedule__peak=1e300), then=MEASUREMENT)
    planned["erm", 0, 0] = failing
    trained = training.train(planned, tmp_path, lambda _: None, **options)
    for key, run in trained.items():
        assert (MEASUREMENT.kept(run.workdir) is None) == (key[0] == "erm")
    # What is lost is measured again, and nothing trained for it.
    workdir = trained["sam", 0.1, 0].workdir
    before = (workdir / "summary.json").stat().st_mtime_ns
    (workdir / "measured.json").unlink()
    assert runs.finished(planned["sam", 0.1, 0], workdir) is None
    training.train(planned, tmp_path, lambda _: None, **options)
    assert MEASUREMENT.kept(workdir)[0] == "a"
    assert (workdir / "summary.json").stat().st_mtime_ns == before


def test_a_measurement_is_made_once_for_the_same_options(tmp_path):
    calls = []

    def measure(workdir, rho):
        calls.append(rho)
        return {"rho": rho, "calls": len(calls)}

    for rho, found in [((0.1, 1), 1), ((0.1, 1), 1), (2, 2)]:
        one = runs.Measurement("measured.json", measure, {"rho": rho})
        assert one.of(tmp_path)["calls"] == found
    failing = runs.Measurement("measured.json", lambda workdir: [np.nan], {})
    with pytest.raises(TrainingError, match=r"trained, but its measured\.json cannot"):
        failing.of(tmp_path)


def test_an_unknown_figure_lists_the_known_ones(tmp_path):
    trained = training.train({("erm",): PlannedRun(tiny())}, tmp_path, lambda _: None)
    with pytest.raises(ValueError, match=r"it has .*test_error_best"):
        trained[("erm",)].figure("test_eror")


def branched(tmp_path, **changes):
    source = tiny(epochs=4, checkpoint__keep=4)
    loop.run(source, tmp_path / "erm", silent=True)
    target = tiny(epochs=4, sam__kind="sam", sam__start_epoch=2, **changes)
    restore.branch(tmp_path / "erm", 2, target, tmp_path / "branch")
    return target


def test_a_branch_is_the_run_that_was_trained_from_the_start(tmp_path):
    target = branched(tmp_path)
    summaries = [
        loop.run(target, tmp_path / name, silent=True) for name in ("branch", "whole")
    ]
    states = []
    for name in ("branch", "whole"):
        directory = tmp_path / name / "checkpoints"
        with checkpoint.Checkpoints(directory, read_only=True) as saved:
            states.append(saved.read(4).state)
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    for summary in summaries:
        summary.pop("seconds")
    assert summaries[0] == summaries[1]


def test_a_branch_may_change_the_ascent_alone(tmp_path):
    with pytest.raises(ConfigError, match=r"differ in l2: 0\.0005 -> 0\.1"):
        branched(tmp_path, l2=0.1)


def test_a_branch_needs_the_checkpoint(tmp_path):
    loop.run(tiny(), tmp_path / "erm", silent=True)
    target = tiny(sam__kind="sam", sam__start_epoch=1)
    with pytest.raises(CheckpointError, match=r"no checkpoint of epoch 7; it has .*2"):
        restore.branch(tmp_path / "erm", 7, target, tmp_path / "branch")
    restore.branch(tmp_path / "erm", 2, target, tmp_path / "branch")  # may be mended


def test_a_branch_may_begin_with_the_average(tmp_path):
    config = tiny(epochs=3, ema__decay=0.9, checkpoint__keep=3)
    planned = {
        ("erm",): PlannedRun(config),
        ("tuned",): PlannedRun(config, ("erm",), 2, average=True),
    }
    trained = training.train(planned, tmp_path, lambda _: None)
    source = restore.read(trained["erm",].workdir)
    (before,) = source.states([2])
    again = tmp_path / "again"
    restore.branch(source.workdir, 2, config, again, average=True)
    (start,) = restore.read(again).states([2])
    for weights in (start.params, start.ema_params):
        chex.assert_trees_all_equal(weights, before.ema_params)
    assert optax.tree.norm(optax.tree.sub(before.params, start.params)) > 0
    with pytest.raises(ConfigError, match=r"began at .*True.*, and is asked .*False"):
        restore.branch(source.workdir, 2, config, again)
    chex.assert_trees_all_equal(start.opt_state, before.opt_state)
    loop.run(config, again, silent=True)
    ends = [next(restore.read(d).states([3])) for d in (again, tmp_path / "tuned")]
    chex.assert_trees_all_equal(*ends)
    (plain,) = source.states([3])
    assert optax.tree.norm(optax.tree.sub(plain.params, ends[0].params)) > 0


def test_a_branch_from_the_average_may_have_its_own_schedule(tmp_path):
    config = tiny(epochs=3, ema__decay=0.9, checkpoint__keep=3)
    other = tiny(epochs=3, ema__decay=0.9, checkpoint__keep=3, schedule__name="cosine")
    loop.run(config, tmp_path / "erm", silent=True)
    with pytest.raises(ConfigError, match=r"schedule\.name.* from an average"):
        restore.branch(tmp_path / "erm", 2, other, tmp_path / "branch")
    ends = []
    for name, one in (("same", config), ("own", other)):
        folder = tmp_path / name
        restore.branch(tmp_path / "erm", 2, one, folder, average=True)
        loop.run(one, folder, silent=True)
        ends.append(next(restore.read(folder).states([3])).params)
    assert optax.tree.norm(optax.tree.sub(*ends)) > 0


def test_a_branch_from_the_average_needs_one(tmp_path):
    loop.run(tiny(), tmp_path / "erm", silent=True)
    with pytest.raises(ConfigError, match=r"keeps no moving average .*ema\.decay"):
        restore.branch(tmp_path / "erm", 1, tiny(), tmp_path / "b", average=True)


def test_fleets_are_formed_by_configuration_and_held_one_at_a_time(
    tmp_path, monkeypatch
):
    sizes, seeds = (0, 1, 4, 8, 16), (0, 1, 2)
    planned = {
        (m, seed): PlannedRun(
            tiny(sam__kind="sam", sam__m=m, seed=seed, data__noise__fraction=0.5)
        )
        for seed, m in itertools.product(seeds, sizes)
    }
    seen, before = [], []

    def train(fleet_runs, on_failure):
        gc.collect()
        assert not any(old() is not None for old in before)
        before[:] = [weakref.ref(run) for run in fleet_runs]
        examples = [run.setup.examples for run in fleet_runs]
        assert len({id(e.images) for e in examples}) == 1
        assert len({id(e.true) for e in examples}) == 1
        assert len({e.given.tobytes() for e in map(jax.device_get, examples)}) == 3
        steps = {run.setup.ascent_step for run in fleet_runs}
        seen.append(({r.config.sam.m for r in fleet_runs}, len(fleet_runs), len(steps)))
        for run in fleet_runs:
            on_failure(run, NonFiniteLoss("not trained here"))

    monkeypatch.setattr(fleet, "train", train)
    trained = training.train(planned, tmp_path, lambda _: None, together=True)
    assert sorted(seen, key=str) == sorted([({m}, 3, 1) for m in sizes], key=str)
    assert all(run.summary == {} for run in trained.values())


def test_runs_that_go_on_from_others_are_a_fleet_after_them(tmp_path, monkeypatch):
    switched = {"sam__start_epoch": 1, "sam__kind": "sam"}
    planned = {
        ("erm", seed): PlannedRun(tiny(seed=seed, checkpoint__keep=2))
        for seed in (0, 1)
    }
    planned |= {
        ("late", seed): PlannedRun(tiny(seed=seed, **switched), ("erm", seed), 1)
        for seed in (0, 1)
    }
    alone = training.train(planned, tmp_path / "alone", lambda _: None)
    monkeypatch.setattr(loop, "run", None)  # not needed
    found = training.train(planned, tmp_path / "fleet", lambda _: None, together=True)
    for key, run in alone.items():
        received = found[key].summary
        for name, value in run.summary.items():
            if name not in ("seconds", "device"):
                assert received[name] == pytest.approx(value, rel=1e-9), (key, name)


def test_a_fleet_that_memory_does_not_hold_is_trained_in_halves(tmp_path, monkeypatch):
    train, sizes, failed, lines = fleet.train, [], [], []

    def limited(fleet_runs, on_failure):
        gc.collect()
        assert not any(run() is not None for run in failed)
        sizes.append(len(fleet_runs))
        if len(fleet_runs) > 2:
            failed.append(weakref.ref(fleet_runs[0]))
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return train(fleet_runs, on_failure)

    monkeypatch.setattr(fleet, "train", limited)
    monkeypatch.setattr(loop, "run", None)  # not needed
    found = training.train(grid(), tmp_path, lines.append, together=True)
    assert sizes == [4, 2, 2]
    assert all(run.summary for run in found.values())
    assert sorted(line[:3] for line in lines) == ["1/4", "2/4", "3/4", "4/4"]


def test_a_run_that_no_fleet_can_begin_with_does_not_end_the_others(tmp_path):
    planned = grid()
    planned["erm", "-", 0] = PlannedRun(tiny())
    for seed in (0, 1):  # of an epoch that its parent has not kept
        late = tiny(sam__kind="sam", sam__start_epoch=1, epochs=2)
        planned["late", "-", seed] = PlannedRun(late, ("erm", "-", 0), 7)
    with pytest.raises(TrainingError, match="no checkpoint of epoch 7"):
        training.train(planned, tmp_path, lambda _: None, together=True)
    assert (tmp_path / "sam" / "0.2" / "1" / "summary.json").exists()
