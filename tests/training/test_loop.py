import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from sam_jax.training import (
    checkpoint,
    configuration,
    epochs,
    flat_state,
    loading,
    loop,
    summary,
    writer,
)
from sam_jax.training.configuration import ConfigError
from sam_jax.training.errors import NonFiniteLoss, TrainingError
from sam_jax.training.progress import Progress
from tests.training.problems import RUN, tiny

ROOT = pathlib.Path(__file__).parents[2]


def run(directory, **changes):
    return loop.run(tiny(**changes), directory, silent=True)


def final_state(directory):
    with checkpoint.Checkpoints(directory / "checkpoints") as checkpoints:
        return checkpoints.restore()


def records(directory):
    """metrics.jsonl without what a clock measured."""
    lines = writer.read_records(directory / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    run(directory, **RUN)
    return directory


def same_run(directory, uninterrupted):
    received, expected = final_state(directory), final_state(uninterrupted)
    assert received.number == expected.number
    assert received.state.keys() == expected.state.keys()
    for name, array in expected.state.items():
        np.testing.assert_array_equal(received.state[name], array, err_msg=name)
    assert records(directory) == records(uninterrupted)
    keys = json.loads((uninterrupted / "summary.json").read_text()).keys()
    assert json.loads((directory / "summary.json").read_text()).keys() == keys


class Killed(BaseException):
    """Stands for a kill in the middle of a step."""


def run_killed(directory, monkeypatch, steps):
    """Runs until so many steps of this start are done."""
    report, done = Progress.step, itertools.count(1)

    def step(self, measured):
        report(self, measured)
        if next(done) == steps:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", step)
        with pytest.raises(Killed):
            run(directory, **RUN)


# Of ten steps an epoch; the last case dies in the first, the third and again the third.
@pytest.mark.parametrize("kills", [[1], [11], [9, 25, 9]])
def test_hazard_13_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    tmp_path, monkeypatch, uninterrupted, kills
):
    for steps in kills:
        run_killed(tmp_path / "run", monkeypatch, steps)
    run(tmp_path / "run", **RUN)
    same_run(tmp_path / "run", uninterrupted)


def test_a_process_killed_at_any_moment_resumes_bit_for_bit(tmp_path, uninterrupted):
    script = (
        "import pathlib, sys; from tests.training import test_loop as t; "
        "t.run(pathlib.Path(sys.argv[1]), **t.RUN)"
    )
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    lines = tmp_path / "run" / "metrics.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], cwd=ROOT, env=environment
    ) as process:
        while process.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    run(tmp_path / "run", **RUN)
    same_run(tmp_path / "run", uninterrupted)


def test_a_finished_run_is_only_summarised_again(tmp_path, uninterrupted):
    before = (uninterrupted / "summary.json").read_text()
    assert run(uninterrupted, **RUN) == json.loads(before)
    assert (uninterrupted / "summary.json").read_text() == before


def test_another_seed_is_another_run(tmp_path, uninterrupted):
    run(tmp_path / "run", **{**RUN, "seed": 1})
    received, expected = final_state(tmp_path / "run"), final_state(uninterrupted)
    name = "params.head.kernel"
    assert not np.array_equal(received.state[name], expected.state[name])


def test_a_damaged_checkpoint_is_made_again_from_the_one_before(
    tmp_path, uninterrupted, capsys
):
    run(tmp_path / "run", **RUN)
    for path in (tmp_path / "run" / "checkpoints" / "3").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    run(tmp_path / "run", **RUN)
    assert "falling back" in capsys.readouterr().err
    same_run(tmp_path / "run", uninterrupted)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_saved(tmp_path):
    # A perturbation of this length overflows; the first epoch is without.
    changes = {"sam__kind": "sam", "sam__rho": 1e300, "sam__start_epoch": 1}
    with pytest.raises(NonFiniteLoss, match=r"gradient_norm is inf at step 40\."):
        run(tmp_path / "run", **changes)
    assert final_state(tmp_path / "run").number == 1
    assert [r["epoch"] for r in records(tmp_path / "run")] == [1]


def test_lost_metrics_are_an_error(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(TrainingError, match="records of epochs none, where"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "erm"}, "------------"),
        ({"kind": "sam"}, "ssssssssssss"),
        ({"kind": "sam", "start_epoch": 1}, "----ssssssss"),
        ({"kind": "sam", "stop_epoch": 2}, "ssssssss----"),
        ({"kind": "gsam", "start_epoch": 1, "stop_epoch": 2}, "----ssss----"),
        ({"kind": "sam", "every": 3}, "s--s--s--s--"),
    ],
)
def test_sam_is_switched_on_and_off_by_step(changes, expected):
    settings = configuration.check(
        tiny(**{f"sam__{k}": v for k, v in changes.items()})
    ).sam
    received = [epochs.uses_ascent(settings, t // 4, t) for t in range(12)]
    assert received == [letter == "s" for letter in expected]


def test_erm_then_sam_is_erm_until_it_starts(tmp_path):
    run(tmp_path / "erm")
    run(tmp_path / "both", sam__kind="sam", sam__start_epoch=1)
    erm, both = records(tmp_path / "erm"), records(tmp_path / "both")
    assert erm[0] == both[0]
    assert both[0]["ascent_norm"] == both[0]["rho"] == 0
    np.testing.assert_allclose(both[1]["ascent_norm"], 0.1, rtol=1e-9)
    assert both[1]["rho"] == 0.1
    assert erm[1]["test_loss"] != both[1]["test_loss"]


def test_fine_tuning_starts_from_the_weights_of_another_run(tmp_path):
    run(tmp_path / "first")
    prepared = loop.prepare(
        tiny(init_from=str(tmp_path / "first"), seed=5, ema__decay=0.5), tmp_path / "b"
    )
    state = flat_state.flatten(prepared.setup.initial_state())
    first = final_state(tmp_path / "first").state
    for name in ("params.head.kernel", "params.head.bias"):
        np.testing.assert_array_equal(state[name], first[name])
        np.testing.assert_array_equal(state[f"ema_{name}"], first[name])
    assert state["step"] == 0
    loop.train(prepared, silent=True)


def test_the_recorded_schedules_are_those_of_the_config(tmp_path):
    changes = {"epochs": 4, "sam__kind": "sam", "schedule__warmup_epochs": 1.0}
    run(tmp_path / "run", **changes, sam__rho_schedule="cosine", eval__every_epochs=2)
    lines = records(tmp_path / "run")
    steps = 40
    assert [line["step"] for line in lines] == [steps * e for e in (1, 2, 3, 4)]
    rates = [0.1 * (steps - 1) / steps, 0.1, 0.01, 0.001]
    np.testing.assert_allclose([line["learning_rate"] for line in lines], rates)
    phase = np.pi * (np.array([1, 2, 3, 4]) * steps - 1) / (4 * steps)
    np.testing.assert_allclose(
        [line["rho"] for line in lines], 0.05 * (1 + np.cos(phase)), rtol=1e-6
    )
    assert ["test_error" in line for line in lines] == [False, True, False, True]


def test_validation_is_as_noisy_as_training(tmp_path):
    noisy = tiny(data__noise__fraction=0.5, data__validation_fraction=0.3)
    clean = tiny(data__validation_fraction=0.3)
    parts = [loading.load_examples(configuration.check(c))[:2] for c in (noisy, clean)]
    (examples, indices), (truth, _) = parts
    np.testing.assert_array_equal(examples.true, truth.given)
    assert set(np.concatenate([indices["train"], indices["validation"]])) == set(
        range(1437)
    )
    for part in ("train", "validation"):
        changed = examples.given[indices[part]] != examples.true[indices[part]]
        assert 0.35 < changed.mean() < 0.55  # 0.45 expected: a tenth hits the truth
    test = indices["test"]
    np.testing.assert_array_equal(examples.given[test], examples.true[test])
    noisy_part = indices["train_noisy"]
    assert np.all(examples.given[noisy_part] != examples.true[noisy_part])
    clean_part = indices["train_clean"]
    np.testing.assert_array_equal(examples.given[clean_part], examples.true[clean_part])


def test_a_smaller_set_of_smaller_images_comes_before_noise_and_split():
    config = tiny(
        data__resize=4,
        data__train_examples=100,
        data__noise__fraction=0.5,
        data__validation_fraction=0.3,
    )
    examples, indices, _ = loading.load_examples(configuration.check(config))
    assert examples.images.shape == (100 + 360, 4, 4, 1)
    kept = np.concatenate([indices["train"], indices["validation"]])
    np.testing.assert_array_equal(np.sort(kept), np.arange(100))
    assert len(indices["validation"]) == 30
    np.testing.assert_array_equal(np.bincount(examples.true[kept]), [10] * 10)
    changed = examples.given[kept] != examples.true[kept]
    assert 0.3 < changed.mean() < 0.6


def line(epoch, validation, test, ema=None):
    extra = {} if ema is None else {"ema_validation_error": ema, "ema_test_error": ema}
    figures = {"validation_error": validation, "test_error": test, "train_loss": test}
    return {"epoch": epoch, "step": epoch, "seconds": 1.0, **figures, **extra}


def test_the_best_epoch_is_the_earliest_of_least_validation_error():
    history = [
        line(1, 0.5, 0.5),
        line(2, 0.3, 0.4),
        line(3, 0.3, 0.1),
        line(4, 0.6, 0.2),
    ]
    received = summary.summarize(history)
    assert received["best_epoch"] == 2
    assert received["test_error_best"] == 0.4
    assert received["test_error_last"] == 0.2
    assert received["validation_error_best"] == 0.3
    best = [summary.best_record(history[:n])["epoch"] for n in (1, 2, 3, 4)]
    assert best == [1, 2, 2, 2]


def test_averaged_weights_have_a_best_epoch_of_their_own():
    history = [line(1, 0.5, 0.5, ema=0.9), line(2, 0.6, 0.4, ema=0.2)]
    received = summary.summarize(history)
    assert (received["best_epoch"], received["ema_best_epoch"]) == (1, 2)
    assert received["ema_test_error_best"] == 0.2
    rows = summary.table({"SAM": received}).splitlines()
    assert rows[2].split()[:2] == ["SAM", "1"]
    assert rows[3].split()[:3] == ["SAM", "EMA", "2"]


def test_without_validation_there_is_no_best_epoch(tmp_path):
    received = run(tmp_path / "run", data__validation_fraction=0.0)
    assert "best_epoch" not in received
    assert "test_error_last" in received
    assert " - " in summary.table({"ERM": received})


def test_one_line_an_evaluation_where_there_is_no_terminal(tmp_path, capsys):
    loop.run(tiny(), tmp_path / "run")
    received = capsys.readouterr()
    assert received.out == ""
    assert "\r" not in received.err
    first, *lines = received.err.splitlines()
    assert first == "ERM: 80 steps; compiling the first"
    epochs = [text for text in lines if text.startswith("ERM: epoch")]
    assert [text.split("  ")[0] for text in epochs] == ["ERM: epoch 1", "ERM: epoch 2"]
    for word in ("batch loss", "batch error", "validation error", "test error"):
        assert word in epochs[0]
    assert all("steps/s" in text and " left" in text for text in lines)


def test_a_step_compiles_once_whatever_the_rates(tmp_path):
    changes = {"sam__kind": "sam", "epochs": 2, "schedule__name": "cosine"}
    prepared = loop.prepare(tiny(**changes), tmp_path / "run")
    loop.train(prepared, silent=True)
    assert prepared.setup.ascent_step._cache_size() == 1
    assert jax.tree.leaves(prepared.setup.coefficients)[0].shape == (80,)


def test_bfloat16_nets_keep_parameters_in_float32(tmp_path):
    changes = {"model__name": "mlp", "model__widths": (8,), "sam__kind": "sam"}
    run(tmp_path / "run", **changes, model__dtype="bfloat16", epochs=1)
    state = final_state(tmp_path / "run").state
    dtypes = {a.dtype for name, a in state.items() if name.startswith("params")}
    assert dtypes == {np.dtype("float32")}


def test_weights_of_another_network_are_refused(tmp_path):
    run(tmp_path / "first", epochs=1)
    with pytest.raises(TrainingError, match="differ in params"):
        run(tmp_path / "b", init_from=str(tmp_path / "first"), model__name="mlp")


def test_runs_that_differ_in_data_and_coefficients_share_their_programs(tmp_path):
    alike = {"seed": 1, "sam__rho": 0.2, "l2": 0.0, "data__noise__fraction": 0.5}
    first = loop.prepare(tiny(sam__kind="sam"), tmp_path / "first").setup
    second = loop.prepare(tiny(sam__kind="sam", **alike), tmp_path / "second").setup
    other = loop.prepare(tiny(sam__kind="sam", sam__m=8), tmp_path / "other").setup
    assert first.ascent_step is second.ascent_step
    assert first.ascent_step is not other.ascent_step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "imb_sam", "tail": (10,)}, r"sam\.tail=\(10,\) for 10 classes"),
        ({"kind": "focal_sam", "counts": (5, 1)}, r"sam\.counts=\(5, 1\) for 10 class"),
    ],
)
def test_rare_classes_are_classes_of_the_data(tmp_path, changes, message):
    config = tiny(**{f"sam__{key}": value for key, value in changes.items()})
    with pytest.raises(ConfigError, match=message):
        loop.run(config, tmp_path, silent=True)
