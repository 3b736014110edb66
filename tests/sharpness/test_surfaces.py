import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import sharpness


def square(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))


def test_interpolation_of_a_square_is_a_parabola():
    a, b = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 2.0])}
    alphas = np.linspace(-0.5, 1.5, 9)
    received = sharpness.interpolate(square, a, b, alphas)
    np.testing.assert_allclose(received, (1 - alphas) ** 2 + 4 * alphas**2, rtol=1e-12)


def test_distance_is_measured_by_the_way_come():
    a, b, start = ({"w": jnp.array(x)} for x in ([3.0, 0.0], [3.0, 2.0], [-1.0, 0.0]))
    assert sharpness.relative_distance(a, b, start) == 0.5
    assert sharpness.relative_distance(a, a, start) == 0


def test_every_filter_is_as_long_as_the_weights():
    random = np.random.default_rng(0)
    params = {
        "kernel": jnp.asarray(random.normal(size=(3, 3, 2, 5)) * np.arange(5)),
        "dense": jnp.asarray(random.normal(size=(4, 6))),
        "bias": jnp.ones(5),
        "count": jnp.array(3),
    }
    direction = sharpness.filter_normalized(jax.random.key(0), params)
    for name in ("kernel", "dense"):
        received, expected = (
            np.linalg.norm(np.asarray(x[name]).reshape(-1, x[name].shape[-1]), axis=0)
            for x in (direction, params)
        )
        np.testing.assert_allclose(received, expected, rtol=1e-12)
    assert not np.any(direction["bias"])
    assert direction["count"] == 0
    other = sharpness.filter_normalized(jax.random.key(1), params)
    assert (
        abs(np.corrcoef(direction["dense"].ravel(), other["dense"].ravel())[0, 1]) < 0.7
    )


def test_the_surface_of_a_square():
    params = {"w": jnp.array([1.0, 1.0])}
    first, second = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}
    alphas, betas = np.linspace(-1, 1, 3), np.linspace(-2, 2, 5)
    received = sharpness.surface(square, params, first, second, alphas, betas)
    expected = (1 + alphas[:, None]) ** 2 + (1 + betas) ** 2
    np.testing.assert_allclose(received, expected, rtol=1e-12)
