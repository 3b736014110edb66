"""`python -m sam_jax.measure` on runs of seconds, and what it refuses."""

import dataclasses
import json
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from sam_jax import measure
from sam_jax.analysis import networks, restore
from sam_jax.models.normalization import MOMENTUM
from sam_jax.training import loop, startup
from sam_jax.training.evaluate import Evaluator, FreshStatistics
from tests.training.problems import tiny

FEW = ["--examples=32", "--m=8", "--ascent_steps=3", "--lanczos_steps=6"]
FEW += ["--samples=2", "--points=3"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    changes = {"data__noise__fraction": 0.5, "checkpoint__keep": 2, "ema__decay": 0.9}
    loop.run(tiny(**changes), folder, silent=True)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch):
    monkeypatch.setattr(startup, "use_compilation_cache", lambda: None)


def test_a_checkpoint_is_measured_printed_and_drawn(workdir, tmp_path, capsys):
    command = [f"--workdir={workdir}", f"--out={tmp_path}", *FEW]
    assert measure.main(command) == 0
    text = capsys.readouterr().out
    figures = json.loads((tmp_path / "sharpness.json").read_text())
    for name in ("loss rise, apgd", "eigenvalue 1", "trace", "error rise, random"):
        assert name in text
        assert np.isfinite(figures[name])
    # A larger search finds more, and smaller groups rise more.
    assert figures["loss rise, apgd"] >= figures["loss rise, one step"] * (1 - 1e-9)
    assert figures["loss rise, apgd, m = 8"] > figures["loss rise, apgd"] > 0
    assert (tmp_path / "sharpness.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "sharpness.npz") as arrays:
        surface = arrays["surface"]
    assert surface.shape == (3, 3)
    # The middle of the surface is the network itself.
    assert surface[1, 1] == pytest.approx(figures["loss"], rel=1e-12)


def test_evaluation_in_two_ways_agrees(workdir):
    run = restore.read(workdir)
    (state,) = run.states([2])
    figures = networks.evaluate_anew(run, state)(state.params)
    count = len(run.setup.train)
    batch = networks.training_batch(run, count)
    objective = networks.evaluation_objective(run, state, 0.0)
    received = float(objective.value(state.params, batch))
    assert received == pytest.approx(figures["train_loss"], rel=1e-6)
    record = json.loads((workdir / "summary.json").read_text())
    assert received == pytest.approx(record["train_loss_last"], rel=1e-6)
    decayed = networks.evaluation_objective(run, state, 2.0)
    square = sum(float((w**2).sum()) for w in state.params["head"].values())
    expected = received + square
    assert float(decayed.value(state.params, batch)) == pytest.approx(expected)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.BatchNorm(not train, momentum=MOMENTUM)(images.reshape(len(images), -1))
        return nn.Dense(10)(x)


def test_evaluation_anew_takes_statistics_of_the_training_batches(workdir):
    run, module = restore.read(workdir), Normalized()
    (state,), setup = run.states([2]), run.setup
    train, layout = setup.train, setup.layout
    setup = dataclasses.replace(
        setup,
        module=module,
        evaluate=Evaluator(
            module, setup.loss, layout, parts={"train": train}, batch_size=512
        ),
        fresh_statistics=FreshStatistics(module, layout, train=train, batch_size=32),
    )
    run = run._replace(setup=setup)
    batch = networks.training_batch(run, len(train))
    variables = module.init(jax.random.key(0), batch["images"], train=False)
    params, stale = variables["params"], variables["batch_stats"]
    received = networks.evaluate_anew(run, state._replace(batch_stats=stale))(params)
    fresh = setup.fresh_statistics(params, stale, setup.examples)
    expected, old = (
        float(networks.evaluation_objective(run, now, 0.0).value(params, batch))
        for now in (state._replace(batch_stats=stats) for stats in (fresh, stale))
    )
    assert received["train_loss"] == pytest.approx(expected, rel=1e-6)
    assert old != pytest.approx(expected, rel=1e-2)


def test_alignment_is_measured_at_every_checkpoint(workdir):
    found = networks.alignment_over_training(workdir, rho=0.1, batches=3)
    np.testing.assert_array_equal(found.epochs, [1, 2])
    assert found.true.shape == found.noisy.shape == (2, 2)
    for cosines in (found.true, found.noisy):
        assert np.all((cosines > -1) & (cosines < 1))


def test_cosines_are_those_of_softmax_regression(workdir):
    run = restore.read(workdir)
    (state,) = run.states([2])
    chosen = run.setup.train[:32]
    images = np.asarray(run.setup.examples.batch(chosen)["images"]).reshape(32, -1)
    x = np.column_stack([images, np.ones(32)])
    head = state.params["head"]
    w = np.vstack([head["kernel"], head["bias"]])
    given, true = (
        np.asarray(labels)[chosen]
        for labels in (run.setup.examples.given, run.setup.examples.true)
    )

    def gradient(w, labels, weights=1):
        p = np.exp(x @ w)
        p /= p.sum(1, keepdims=True)
        return (x.T * weights) @ (p - np.eye(10)[labels])

    def cosine(a, b):
        return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)

    g = gradient(w, given)
    points = g, gradient(w + 0.5 * g / np.linalg.norm(g), given)
    found = networks.alignment_over_training(workdir, rho=0.5, batches=1)
    references = gradient(w, true), gradient(w, given, given != true)
    for received, reference in zip((found.true, found.noisy), references, strict=True):
        expected = [cosine(point, reference) for point in points]
        np.testing.assert_allclose(received[-1], expected, rtol=1e-8)


def test_weights_are_those_of_softmax_regression(workdir):
    """Two batches, each the other one's; ascents of one, of four, of all, of the other
    batch, in NumPy; the random one only has to be another."""
    run = restore.read(workdir)
    (state,) = run.states([2])
    head = state.params["head"]
    w, batches = np.vstack([head["kernel"], head["bias"]]), []
    for chosen in run.setup.train[:64].reshape(2, 32):
        images = np.asarray(run.setup.examples.batch(chosen)["images"])
        given, true = (
            np.asarray(labels)[chosen]
            for labels in (run.setup.examples.given, run.setup.examples.true)
        )
        x = np.column_stack([images.reshape(32, -1), np.ones(32)])
        batches.append((x, given, given != true))

    def own(w, x, labels):
        p = np.exp(x @ w)
        p /= p.sum(1, keepdims=True)
        return p, p[np.arange(len(x)), labels]

    def moved(x, labels):
        g = x.T @ (own(w, x, labels)[0] - np.eye(10)[labels])
        return w + 0.5 * g / np.linalg.norm(g)

    def measured(batch, other):
        x, given, wrong = batch
        before, rows = own(w, x, given)[1], []
        groups = [
            [(x[i : i + m], given[i : i + m]) for i in range(0, 32, m)]
            for m in (1, 4, 32)
        ]
        ascents = [[own(moved(*g), *g) for g in parts] for parts in groups]
        for after in (*ascents, [own(moved(*other[:2]), x, given)]):
            after = np.concatenate([p for _, p in after])
            sizes = [
                [1 - p[part].mean() for p in (before, after)]
                for part in (~wrong, wrong)
            ]
            rows.append((*sizes, np.mean(after <= before)))
        return rows

    expected = [measured(*pair) for pair in (batches, batches[::-1])]
    found = networks.weights_over_training(
        workdir, rho=0.5, groups=(1, 4, 0), batches=2
    )
    np.testing.assert_array_equal(found.epochs, [1, 2])
    for i, received in enumerate((found.clean, found.noisy, found.lowered)):
        mean = np.mean([[row[i] for row in rows] for rows in expected], axis=0)
        np.testing.assert_allclose(received[-1][:4], mean, rtol=1e-8)
    assert np.all(found.clean[-1][4, 1] != found.clean[-1][:4, 1])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["--epoch=9"], "no checkpoint of epoch 9; it has 1, 2"),
        (["--examples=5000"], "Received 5000 examples to measure on; the run trained"),
        (["--examples=32", "--m=7"], "Received m=7 for 32 examples"),
        (["--rho=-1"], "Received rho=-1.0"),
    ],
)
def test_wrong_arguments_end_in_one_line(workdir, capsys, others, message):
    assert measure.main([f"--workdir={workdir}", *FEW, *others]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error


def test_the_help_begins_with_commands_that_are_accepted(capsys):
    with pytest.raises(SystemExit, match="0"):
        measure.main(["--help"])
    said = capsys.readouterr().out
    commands = re.findall(r"^  python -m sam_jax\.measure (.*)$", said, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        measure.parser().parse_args(command.split())
    assert said.index(commands[0]) < said.index("options:")
    assert re.search(r"--rho X +radius of the ball; default: 0\.05", said)


def test_an_out_that_cannot_be_written_is_one_line(workdir, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = f"--out={tmp_path / 'file' / 'out'}"
    assert measure.main([f"--workdir={workdir}", *FEW, out]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_run_and_a_run_without_checkpoint(tmp_path, capsys):
    assert measure.main([f"--workdir={tmp_path}"]) == 2
    assert "no work directory of a run" in capsys.readouterr().err
    loop.prepare(tiny(), tmp_path)
    assert measure.main([f"--workdir={tmp_path}"]) == 2
    assert "holds no checkpoint yet" in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(workdir, tmp_path, capsys):
    config = json.loads((workdir / "config.json").read_text())
    config["model"].update(name="mlp")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").symlink_to(workdir / "checkpoints")
    assert measure.main([f"--workdir={tmp_path}", *FEW]) == 2
    assert "use the model" in capsys.readouterr().err
