import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import trees

TREE = {"a": jnp.array([3.0, 0.0]), "b": {"c": jnp.array([[4.0]]), "n": jnp.array(7)}}


def test_norm_and_dot_are_those_of_the_flat_float_vector():
    np.testing.assert_allclose(trees.norm(TREE), 5.0, rtol=1e-15)
    other = jax.tree.map(lambda x: x + 1, TREE)
    np.testing.assert_allclose(trees.dot(TREE, other), 3 * 4 + 0 * 1 + 4 * 5)


def test_unit_has_length_one_and_keeps_the_direction():
    received = trees.unit(TREE)
    np.testing.assert_allclose(received["a"], [0.6, 0.0], rtol=1e-15)
    np.testing.assert_allclose(received["b"]["c"], [[0.8]], rtol=1e-15)
    assert received["b"]["n"] == 0


def test_unit_of_zero_is_zero_and_of_nan_is_nan():
    zero = trees.unit(trees.zeros_like(TREE))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(zero))
    assert np.isnan(trees.unit({"a": jnp.array([jnp.nan, 1.0])})["a"]).all()


def test_empty_trees_and_empty_subtrees_have_norm_zero():
    assert trees.norm({}) == 0
    assert trees.norm({"a": {}, "b": None, "c": jnp.zeros((0, 3))}) == 0
    assert trees.unit({"a": {}}) == {"a": {}}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_norms_of_half_precision_accumulate_in_float32(dtype):
    """4096 entries of 0.1 in float16 sum to squares of 40.96; bf16 sums stop at 4."""
    x = jnp.full((4096,), 0.1, dtype)
    expected = np.linalg.norm(np.asarray(x, np.float64))
    received = trees.norm(x)
    assert received.dtype == jnp.float32
    np.testing.assert_allclose(received, expected, rtol=1e-6)


def test_large_half_precision_entries_do_not_overflow():
    x = jnp.full((4,), 60000.0, jnp.float16)  # its square is beyond float16
    np.testing.assert_allclose(trees.norm(x), 120000.0, rtol=1e-3)


def test_add_keeps_the_dtype_of_the_first():
    a = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.array(3)}
    received = trees.add_scaled(
        a, 0.5, {"w": jnp.ones(2, jnp.float32), "n": jnp.array(9)}
    )
    assert received["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(received["w"], np.float32), [1.5, 1.5])
    assert received["n"] == 3


@pytest.mark.parametrize(("radius", "expected"), [(10.0, 5.0), (5.0, 5.0), (2.0, 2.0)])
def test_projection_on_the_ball(radius, expected):
    received = trees.project(TREE, radius)
    np.testing.assert_allclose(trees.norm(received), expected, rtol=1e-15)
    np.testing.assert_allclose(
        received["a"][0] / received["b"]["c"][0, 0], 3 / 4, rtol=1e-15
    )


def test_projection_of_zero_on_the_ball_of_radius_zero():
    np.testing.assert_array_equal(trees.project(jnp.zeros(3), 0.0), np.zeros(3))


def test_complex_leaves_are_refused():
    with pytest.raises(ValueError, match=r"complex128.*real parameters"):
        trees.norm(jnp.ones(2, jnp.complex128))


def test_random_like_is_standard_normal_and_the_same_for_a_key():
    tree = {"a": jnp.zeros((100, 100)), "b": jnp.zeros(5000), "n": jnp.array(1)}
    first = trees.random_like(jax.random.key(0), tree)
    again = trees.random_like(jax.random.key(0), tree)
    flat = np.concatenate([np.ravel(first["a"]), first["b"]])
    assert abs(flat.mean()) < 4 / np.sqrt(flat.size)
    assert abs(flat.var() - 1) < 4 * np.sqrt(2 / flat.size)
    np.testing.assert_array_equal(first["b"], again["b"])
    assert first["n"] == 0
    # No leaf repeats another's draw.
    assert abs(np.corrcoef(np.ravel(first["a"])[:5000], first["b"])[0, 1]) < 0.06


def test_vjp_gives_zeros_at_integer_leaves():
    outputs, pull, aux = trees.vjp(lambda p: (p["b"]["n"] * p["a"], "aux"), TREE)
    np.testing.assert_array_equal(outputs, [21.0, 0.0])
    gradient = pull(jnp.ones(2))
    np.testing.assert_array_equal(gradient["a"], [7.0, 7.0])
    assert gradient["b"]["n"].dtype == TREE["b"]["n"].dtype
    assert gradient["b"]["n"] == 0
    assert aux == "aux"


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e-10, 1.0, 1e10, 3e18, 1e30, 2e38])
def test_norms_of_numbers_whose_squares_are_none(size):
    """Against float64, where the squares of all of these are ordinary numbers."""
    entries = np.array([3.0, -4.0, 0.5, 0.0]) * size / 8
    tree = [jnp.asarray(entries[:2], jnp.float32), jnp.asarray(entries[2:], "float32")]
    length = np.linalg.norm(entries)
    np.testing.assert_allclose(float(trees.norm(tree)), length, rtol=1e-6)
    received = np.concatenate(trees.unit(tree))
    np.testing.assert_allclose(received, entries / length, rtol=1e-6)
    inside = np.concatenate(trees.project(tree, length / 2))
    np.testing.assert_allclose(inside, entries / 2, rtol=1e-6)


def test_powers_of_two_round_nothing():
    entries = np.random.default_rng(0).normal(size=1000).astype("float32") * 37
    received = trees.norm([jnp.asarray(entries)])
    assert received == np.sqrt(np.sum(jnp.asarray(entries) ** 2))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_does_not_pass_for_zero(value):
    tree = [jnp.array([1.0, value]), jnp.array([2.0])]
    assert not np.isfinite(trees.norm(tree))
    assert all(np.isnan(leaf).all() for leaf in trees.unit(tree))
