"""Measures of last weights, against closed forms of a quadratic."""

import dataclasses
import pathlib
import types

import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from experiments.harness import final_sharpness
from experiments.harness.runs import TrainedRun
from sam_jax.training.errors import TrainingError

RANDOM = np.random.default_rng(0)
X, W = RANDOM.normal(size=(8, 3)), RANDOM.normal(size=3)
BATCH = {"x": jnp.asarray(X), "labels": jnp.zeros(8, int)}
# L_i = sum_j x_ij^2 w_j^2 / 2: the Hessian is diagonal.
OBJECTIVE = sam_jax.Objective(
    lambda w, batch: batch["x"] * w["w"], lambda out, batch: jnp.sum(out**2, -1) / 2
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    state = types.SimpleNamespace(params={"w": jnp.asarray(W)}, batch_stats={"a": 0})
    states = {3: state}
    fake = types.SimpleNamespace(
        config=types.SimpleNamespace(epochs=3),
        states=lambda epochs: [states[epoch] for epoch in epochs],
    )
    monkeypatch.setattr(final_sharpness.restore, "read", lambda workdir: fake)
    networks = final_sharpness.networks
    monkeypatch.setattr(networks, "evaluation_objective", lambda *_: OBJECTIVE)
    monkeypatch.setattr(networks, "training_batch", lambda run, count: BATCH)
    return TrainedRun(tmp_path, {"test_error_last": 0.5}, [])


def test_measures_of_a_quadratic(run):
    failed = TrainedRun(pathlib.Path(), {}, [])
    options = final_sharpness.Options(rho=0.3, lanczos=3, climb=4, samples=2)
    found = final_sharpness.collect({"a": [run, failed]}, options)
    curvature = np.mean(X**2, 0)
    assert found["a_eigenvalue"][0] == pytest.approx(curvature.max(), rel=1e-6)
    assert found["a_trace"][0] == pytest.approx(curvature.sum(), rel=1e-6)
    g = X**2 * W
    there = W + 0.3 * g / np.linalg.norm(g, axis=1, keepdims=True)
    rises = np.sum(X**2 * (there**2 - W**2), 1) / 2
    assert found["a_single"][0] == pytest.approx(rises.mean(), rel=1e-6)
    # One ball for all examples is one of those that single ones may choose.
    assert 0 < found["a_batch"][0] < found["a_single"][0]
    assert found["a_adaptive"][0] > 0
    assert found["a_average"][0] > 0
    np.testing.assert_array_equal(found["a_failed"], [False, True])
    for name in final_sharpness.MEASURES:
        assert found[f"a_{name}"][1] == 0


def test_what_is_measured_is_kept_without_the_weights(run, monkeypatch):
    options = final_sharpness.Options(lanczos=3, climb=2, samples=2)
    first = final_sharpness.measurement(options).of(run.workdir)
    assert list(first) == list(final_sharpness.MEASURES)

    def gone(workdir):
        raise FileNotFoundError(workdir)

    monkeypatch.setattr(final_sharpness.restore, "read", gone)
    assert final_sharpness.measurement(options).of(run.workdir) == first
    other = final_sharpness.measurement(dataclasses.replace(options, rho=0.2))
    with pytest.raises(TrainingError, match=r"its sharpness\.json cannot be made"):
        other.of(run.workdir)
