"""The radius of a rise of the loss, against the roots of quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax

RANDOM = np.random.default_rng(0)
X, Y, W = RANDOM.normal(size=(8, 3)), RANDOM.normal(size=8), RANDOM.normal(size=3)
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
LEAST_SQUARES = sam_jax.Objective(
    lambda w, batch: batch["x"] @ w, lambda out, batch: (out - batch["y"]) ** 2 / 2
)


def risen(rho, m):
    """The mean loss over groups of m at their ascent points, over the mean loss."""
    r = X @ W - Y
    losses = []
    for start in range(0, 8, m):
        x, y = X[start : start + m], Y[start : start + m]
        g = x.T @ (x @ W - y)
        there = x @ (W + rho * g / np.linalg.norm(g)) - y
        losses.extend(there**2)
    return np.mean(losses) / np.mean(r**2)


@pytest.mark.parametrize("m", [None, 1, 4])
@pytest.mark.parametrize("budget", [0.01, 0.3, 20.0])
def test_the_loss_rises_by_the_budget(budget, m):
    rho = sam_jax.choose_rho(LEAST_SQUARES, jnp.asarray(W), BATCH, budget=budget, m=m)
    assert risen(rho, m or 8) == pytest.approx(1 + budget, abs=0.01 * budget)


def test_the_radius_is_the_root_of_the_quadratic():
    r = X @ W - Y
    g = X.T @ r / 8
    curvature = np.mean((X @ g) ** 2) / (g @ g)
    # L + rho |g| + rho^2 curvature / 2 = 1.3 L
    constant = -0.3 * np.mean(r**2) / 2
    root = np.roots([curvature / 2, np.linalg.norm(g), constant]).max()
    received = sam_jax.choose_rho(LEAST_SQUARES, jnp.asarray(W), BATCH, budget=0.3)
    assert received == pytest.approx(root, rel=0.01)


def test_few_passes_are_taken():
    calls = []

    def predict(w, batch):
        jax.debug.callback(lambda: calls.append(1))
        return batch["x"] @ w

    objective = sam_jax.Objective(predict, LEAST_SQUARES.loss)
    sam_jax.choose_rho(objective, jnp.asarray(W), BATCH, budget=3.0)
    jax.effects_barrier()
    assert 3 < len(calls) <= 12


def bounded(out, batch):
    return jnp.tanh((out - batch["y"]) ** 2)


@pytest.mark.parametrize(
    ("loss", "params", "budget", "message"),
    [
        (LEAST_SQUARES.loss, W, 0.0, r"budget=0.0; it must be a number in \(0, inf\)"),
        (bounded, W, 50.0, r"budget=50.0, which no radius up to .* rises by .*smaller"),
        (lambda out, batch: 0 * out, W, 0.1, "mean loss of 0 .*no radius raises it"),
        (lambda out, batch: 0 * out + 1, W, 0.1, "slope 0, where no radius raises it"),
    ],
)
def test_a_budget_that_no_radius_meets_is_refused(loss, params, budget, message):
    objective = sam_jax.Objective(LEAST_SQUARES.predict, loss)
    with pytest.raises(ValueError, match=message):
        sam_jax.choose_rho(objective, jnp.asarray(params), BATCH, budget=budget)


WAVE = sam_jax.Objective(
    lambda w, batch: jnp.broadcast_to(w, 1), lambda out, batch: 1 + jnp.sin(out)
)


def test_a_zero_beyond_a_fall_of_the_loss_is_none():
    """1 + sin from .2 on: 2 / (1 + sin .2) = 1.668 is reached at pi / 2 - .2."""
    w = jnp.asarray(0.2)
    near = sam_jax.choose_rho(WAVE, w, jnp.zeros(1), budget=0.6)
    assert 1 + np.sin(0.2 + near) == pytest.approx(1.6 * (1 + np.sin(0.2)), rel=0.01)
    assert near < np.pi / 2 - 0.2
    message = r"budget=1\.0, .* no radius up to .* rises by 0\.6.* at most, at 1\.2"
    with pytest.raises(ValueError, match=message):
        sam_jax.choose_rho(WAVE, w, jnp.zeros(1), budget=1.0)


def test_a_loss_that_jumps_over_the_rise_is_refused():
    step = sam_jax.Objective(
        lambda w, batch: jnp.broadcast_to(w, 1),
        lambda out, batch: out + jnp.where(out > 1.1, 100.0, 0.0),
    )
    with pytest.raises(ValueError, match=r"budget=5\.0, .* jumps over .* near 0\.1"):
        sam_jax.choose_rho(step, jnp.asarray(1.0), jnp.zeros(1), budget=5.0)


@pytest.mark.parametrize("wrong", [jax.grad(lambda w, batch: w), None])
def test_what_is_no_objective_is_refused(wrong):
    with pytest.raises(
        ValueError, match=r"choose_rho received .*; give a sam_jax\.Obj"
    ):
        sam_jax.choose_rho(wrong, jnp.ones(()), jnp.zeros(1))


def test_a_radius_is_carried_by_the_noise_of_the_gradients():
    # Gradients G + noise: the mean of |g_J|^2 is |G|^2 (1 + s / m).
    for m, to, s in ((64, 1, 20.0), (128, 512, 50.0), (1, 1, 9.0)):
        carried = sam_jax.carry_rho(0.2, m=m, to=to, noise_scale=s)
        assert carried**2 * (1 + s / to) == pytest.approx(0.2**2 * (1 + s / m))
    with pytest.raises(ValueError, match=r"to=0; it must be a number in \[1, inf\)"):
        sam_jax.carry_rho(0.2, m=1, to=0, noise_scale=1.0)


def test_two_radii_of_a_carried_rise_agree_where_the_loss_is_linear_enough():
    w, small = jnp.asarray(W), 1e-3
    whole = sam_jax.choose_rho(LEAST_SQUARES, w, BATCH, budget=small)
    single = sam_jax.choose_rho(LEAST_SQUARES, w, BATCH, budget=small, m=1)
    norms = sam_jax.per_example_norms(LEAST_SQUARES, w, BATCH)
    slope = jax.grad(LEAST_SQUARES.value)(w, BATCH)
    ratio = jnp.linalg.norm(slope) / jnp.mean(norms)
    assert single / whole == pytest.approx(float(ratio), rel=0.02)
