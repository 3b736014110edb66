"""PGD, APGD, FAB and Square against closed forms, and what all attacks keep to."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from sam_jax import attacks, schedules
from sam_jax.attacks import random_squares
from tests.attacks.networks import (
    images_and_labels,
    lengths,
    network,
    random_linear,
    random_mlp,
)

KEY = jax.random.key(0)
ATTACKS = {
    "pgd": functools.partial(attacks.pgd, steps=5, restarts=2),
    "pgd_zero": functools.partial(attacks.pgd, steps=5, start="zero"),
    "fgsm": attacks.fgsm,
    "apgd_ce": functools.partial(attacks.apgd, steps=12),
    "apgd_dlr": functools.partial(attacks.apgd, steps=12, loss="dlr", restarts=2),
    "apgd_t": functools.partial(attacks.apgd, steps=12, loss="dlr_targeted"),
    "fab": functools.partial(attacks.fab, steps=10),
    "fab_restarts": functools.partial(attacks.fab, steps=5, restarts=2),
    "square": functools.partial(attacks.square, queries=30),
    "square_cover": functools.partial(attacks.square, queries=30, cover=True),
}


def normal(w, y):
    """The direction in which the margin of a two-class network grows."""
    return (w[:, 1] - w[:, 0]) * np.where(np.asarray(y) == 0, 1, -1)[:, None]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_on_a_linear_network_is_the_distance_to_its_hyperplane(norm):
    predict, w, _, x, y = random_linear(0)
    gap = -np.asarray(attacks.margin(predict(x), y))
    direction = normal(w, y)
    dual = {"linf": np.abs(direction).sum(1), "l2": lengths(direction, "l2")}[norm]
    expected = gap / dual
    moved = (
        x.reshape(len(x), -1)
        + expected[:, None]
        * {
            "linf": np.sign(direction),
            "l2": direction / dual[:, None],
        }[norm]
    )
    free = np.asarray(jnp.all((moved >= 0) & (moved <= 1), axis=1))  # of the box
    assert free.sum() >= 10
    points = attacks.fab(predict, x, y, norm=norm, steps=20)
    received = lengths(points - x, norm)
    np.testing.assert_allclose(received[free], expected[free], rtol=1e-4)
    assert np.all(received[~free] >= expected[~free] * (1 - 1e-9))
    assert np.all(jnp.argmax(predict(points), 1) != y)


def test_without_its_final_search_fab_stays_beyond_the_boundary():
    predict, w, _, x, y = random_linear(0)
    expected = -np.asarray(attacks.margin(predict(x), y)) / lengths(normal(w, y), "l2")
    points = attacks.fab(predict, x, y, norm="l2", steps=20, search_steps=0)
    excess = lengths(points - x, "l2") / expected - 1
    assert 1e-4 < np.median(excess) < 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_apgd_on_a_linear_network_reaches_the_largest_loss_of_the_ball(norm, dtype):
    predict, w, _, x, y = random_linear(1, dtype=dtype)
    eps = 0.02
    direction = normal(w, y)
    gain = {"linf": np.abs(direction).sum(1), "l2": lengths(direction, "l2")}[norm]
    expected = np.asarray(attacks.margin(predict(x), y)) + eps * gain
    points = attacks.apgd(predict, x, y, eps=eps, norm=norm, start="zero", steps=50)
    received = np.asarray(attacks.margin(predict(points), y))
    resisted = expected < 0  # the others stop at their first misclassified point
    assert resisted.any()
    np.testing.assert_allclose(received[resisted], expected[resisted], rtol=1e-5)
    assert np.all(received[~resisted] > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_of_pgd_is_the_closed_form(norm):
    predict, w, _, x, y = random_linear(2)
    direction = normal(w, y)
    step = {"linf": np.sign(direction), "l2": direction / lengths(direction, "l2")[0]}
    expected = x + 0.03 * step[norm].reshape(x.shape)
    received = attacks.fgsm(predict, x, y, eps=0.03, norm=norm)
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    back = attacks.fgsm(predict, x, 1 - y, eps=0.03, norm=norm, targeted=True)
    np.testing.assert_allclose(back, expected, rtol=1e-6)


def test_checkpoints_are_those_of_the_paper():
    steps = np.array(list(schedules.apgd_checkpoints(100)))
    at = np.flatnonzero(steps) + 1
    np.testing.assert_array_equal(at, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(steps[at - 1], [22, 19, 16, 13, 10, 7, 6, 6])
    assert list(schedules.apgd_checkpoints(1)) == [1]


def test_the_square_shrinks_by_the_schedule():
    shape = (1, 32, 32, 3)
    sides = [random_squares.side(q, 0.8, shape, "linf") for q in (1, 11, 51, 201, 4999)]
    assert sides == [29, 20, 14, 10, 3]
    last = [random_squares.side(q, 0.8, shape, "linf") for q in (10, 50, 200)]
    assert last == [29, 20, 14]  # before a halving
    l2 = [random_squares.side(q, 0.8, shape, "l2") for q in (1, 11, 201, 4999)]
    assert l2 == [29, 21, 11, 3]


def test_the_l2_pattern_is_that_of_the_paper():
    rows, columns = jnp.mgrid[:7, :7][:, None]
    received = random_squares.pattern(rows, columns, 5)[0]
    halves = []
    for height in (2, 3):
        half = np.zeros((height, 5))
        reach = max(height // 2, 5 // 2) + 1
        for k in range(reach):  # squares of half side k around the middle
            r, c = height // 2, 5 // 2
            half[max(r - k, 0) : r + k + 1, max(c - k, 0) : c + k + 1] += (
                1 / (k + 1) ** 2
            )
        halves.append(half / np.linalg.norm(half))
    expected = np.zeros((7, 7))
    expected[:5, :5] = np.vstack([halves[0], -halves[1]]) / 2**0.5
    np.testing.assert_allclose(received, expected, atol=1e-12)


def test_squares_cover_the_last_row_only_if_asked():
    images = jnp.full((500, 8, 8, 1), 0.5)
    for cover in (False, True):
        changed = (
            random_squares.proposal(KEY, images, images, 0.1, 3, "linf", cover)
            != images
        )
        touched = np.asarray(changed.any((0, 2, 3)))
        assert touched[:7].all()
        assert touched[7] == cover
        np.testing.assert_array_equal(changed.sum((1, 2, 3)), 9)


@pytest.mark.parametrize("name", ATTACKS)
@hypothesis.given(
    seed=st.integers(0, 2**16),
    eps=st.floats(0.01, 2.0),
    norm=st.sampled_from(["linf", "l2"]),
)
@hypothesis.settings(max_examples=2, deadline=None, derandomize=True)
def test_points_stay_in_the_ball_and_in_the_box(name, seed, eps, norm):
    predict, x, y = random_mlp(seed, 5)
    points = ATTACKS[name](predict, x, y, eps=eps, norm=norm, key=KEY)
    assert points.shape == x.shape
    assert points.dtype == x.dtype
    assert np.all((points >= 0) & (points <= 1))
    assert lengths(points - x, norm).max() <= eps + 1e-6
    # None of them is further from being misled than the image itself.
    if not name.startswith(("pgd", "fgsm")):
        before, after = (attacks.margin(predict(a), y) for a in (x, points))
        assert np.all(after >= before - 1e-9)


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "square"])
def test_keys_decide_the_random_attacks(name):
    predict, x, y = random_mlp(0, 5)
    attack = functools.partial(ATTACKS[name], predict, x, y, eps=0.01)
    first, again, other = (attack(key=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_more_restarts_are_never_weaker():
    predict, (x, y) = network("adv"), images_and_labels(64)
    robust = []
    for restarts in (1, 3):
        options = {"eps": 0.15, "restarts": restarts, "steps": 5, "key": KEY}
        points = attacks.pgd(predict, x, y, **options)
        robust.append(int((predict(points).argmax(1) == y).sum()))
    assert robust[1] <= robust[0]


def test_pgd_runs_inside_a_compiled_function():
    predict, x, y = random_mlp(0, 5)

    @jax.jit
    def inner(x, eps):
        return attacks.pgd(predict, x, y, eps=eps, start="zero")

    expected = attacks.pgd(predict, x, y, eps=0.1, start="zero")
    np.testing.assert_allclose(inner(x, 0.1), expected, atol=1e-9)


def test_other_weights_and_radii_compile_nothing():
    traces = []

    def predict(params, x):
        traces.append(1)
        return x.reshape(len(x), -1) @ params

    x, y = jnp.full((4, 6, 6, 1), 0.5), jnp.array([0, 1, 2, 0])
    for scale, eps in ((1.0, 0.1), (2.0, 0.2)):
        weights = scale * jax.random.normal(KEY, (36, 3))
        before = len(traces)
        partial = Partial(predict, weights)
        for name in ("pgd", "apgd_t", "square"):
            ATTACKS[name](partial, x, y, eps=eps, key=KEY)
    assert before > 0
    # Each attack looks at the shape of the logits once, without compiling.
    assert len(traces) - before <= 3
