import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.attacks import geometry, hyperplane
from tests.attacks.networks import lengths


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_directions_have_length_one_and_ascend_most(norm):
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 3, 2)))
    received = geometry.NORMS[norm].direction(gradient)
    np.testing.assert_allclose(lengths(received, norm), 1)
    # The most that <g, d> can be is the dual norm of g.
    dual = {"linf": jnp.abs(gradient).sum((1, 2, 3)), "l2": lengths(gradient, "l2")}
    np.testing.assert_allclose((gradient * received).sum((1, 2, 3)), dual[norm])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_tiny_gradient_has_a_direction_and_zero_has_none(norm):
    direction = geometry.NORMS[norm].direction
    tiny = jnp.full((1, 4, 1, 1), 1e-30, jnp.float32)
    np.testing.assert_allclose(lengths(direction(tiny), norm), 1, rtol=1e-6)
    assert not np.any(direction(jnp.zeros((1, 4, 1, 1))))


def test_l2_projection_is_the_nearest_point_of_the_ball():
    delta = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    received = geometry.NORMS["l2"].project(delta, 1.0)
    np.testing.assert_allclose(received, [[0.6, 0.8], [0.3, 0.4], [0, 0]])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_fill_the_ball(norm):
    like = jnp.zeros((4000, 2, 1, 1))
    key = jax.random.key(0)
    boundary = lengths(geometry.NORMS[norm].boundary(key, like, 0.5), norm)
    np.testing.assert_allclose(boundary, 0.5)
    inside = geometry.NORMS[norm].inside(key, like, 0.5)
    # In two dimensions a quarter of the area is within half the radius.
    share = np.mean(lengths(inside, norm) < 0.25)
    assert lengths(inside, norm).max() <= 0.5
    np.testing.assert_allclose(share, 0.25, atol=0.03)
    np.testing.assert_allclose(inside.mean(0), 0, atol=0.02)


def bisection(x, w, value, norm):
    """The shortest step by bisection over its time, in NumPy."""
    direction = -np.sign(value) * np.sign(w)
    speed = np.ones_like(w) if norm == "linf" else np.abs(w)

    def step(t):
        return np.clip(x + t * direction * speed, 0, 1) - x

    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        if (value + w @ step(middle)) * np.sign(value) > 0:
            low = middle
        else:
            high = middle
    return step(high)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_step_onto_a_hyperplane_agrees_with_bisection(norm):
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(60, 7))
    x[::3, :2] = [0, 1]
    w = rng.normal(size=(60, 7))
    w[::4, 3] = 0
    value = rng.normal(size=60) * rng.choice([0.1, 1.0, 10.0], size=60)
    received = hyperplane.step_onto(*map(jnp.asarray, (x, w, value)), norm)
    expected = [bisection(*row, norm) for row in zip(x, w, value, strict=True)]
    reached = np.abs(value + (w * received).sum(1)) < 1e-9
    assert 10 < reached.sum() < 60  # some boxes lie on one side of the hyperplane
    np.testing.assert_allclose(received, expected, atol=1e-9)
    assert np.all((x + received >= 0) & (x + received <= 1))


def test_without_a_box_in_the_way_the_step_is_the_closed_form():
    x = jnp.full((1, 4), 0.5)
    w = jnp.array([[1.0, -2.0, 3.0, 0.5]])
    value = jnp.array([0.1])
    l2 = hyperplane.step_onto(x, w, value, "l2")
    np.testing.assert_allclose(l2, -0.1 * w / jnp.sum(w**2), atol=1e-15)
    linf = hyperplane.step_onto(x, w, value, "linf")
    np.testing.assert_allclose(linf, -0.1 * jnp.sign(w) / 6.5, atol=1e-15)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_normal_gives_no_step(norm):
    step = hyperplane.step_onto(
        jnp.full((1, 3), 0.5), jnp.zeros((1, 3)), jnp.ones(1), norm
    )
    assert not np.any(step)
