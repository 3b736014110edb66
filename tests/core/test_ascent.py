import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import ascent

W = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5]]), "n": jnp.array(3)}
G = {"a": jnp.array([0.3, 0.4]), "b": jnp.array([[-1.2]]), "n": jnp.array(0)}
FLAT_W, FLAT_G = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.4, -1.2])


def flat(tree):
    assert tree["n"] == 0
    return np.concatenate([np.ravel(tree["a"]), np.ravel(tree["b"])])


def expected_adaptive(eta, rho):
    scales = np.abs(FLAT_W) + eta
    return rho * scales**2 * FLAT_G / np.linalg.norm(scales * FLAT_G)


RULES = {
    "normalized": (ascent.normalized, 0.1 * FLAT_G / 1.3),
    "unnormalized": (ascent.unnormalized, 0.1 * FLAT_G),
    "adaptive, eta 0": (ascent.adaptive(0.0), expected_adaptive(0.0, 0.1)),
    "adaptive, eta .01": (ascent.adaptive(0.01), expected_adaptive(0.01, 0.1)),
    "layerwise": (
        ascent.layerwise,
        0.1 * np.array([0.6 * np.sqrt(5), 0.8 * np.sqrt(5), -0.5]),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_their_formulas(name):
    rule, expected = RULES[name]
    received = flat(ascent.perturbation(rule, G, W, 0.1))
    np.testing.assert_allclose(received, expected, rtol=1e-14)


@pytest.mark.parametrize("name", RULES)
def test_a_zero_gradient_gives_a_zero_perturbation(name):
    zero = jax.tree.map(jnp.zeros_like, G)
    received = flat(ascent.perturbation(RULES[name][0], zero, W, 0.1))
    np.testing.assert_array_equal(received, 0)


def test_the_adaptive_step_maximises_the_slope_on_its_ball():
    """No point of {|delta / T| <= rho} climbs the linear loss higher (ASAM Eq. 8)."""
    received = flat(ascent.perturbation(ascent.adaptive(0.0), G, W, 0.1))
    scales = np.abs(FLAT_W)
    np.testing.assert_allclose(np.linalg.norm(received / scales), 0.1, rtol=1e-14)
    others = np.random.default_rng(0).standard_normal((1000, 3))
    others *= 0.1 / np.linalg.norm(others, axis=1, keepdims=True)
    assert ((others * scales) @ FLAT_G).max() <= received @ FLAT_G


def test_the_adaptive_step_is_invariant_to_rescaled_weights():
    """w -> s w with g -> g / s moves the relative perturbation nowhere."""
    s = {"a": 10.0, "b": 0.1, "n": 1}
    scaled_w = jax.tree.map(lambda w, c: w * c, W, s)
    scaled_g = jax.tree.map(lambda g, c: g / c, G, s)
    rule = ascent.adaptive(0.0)
    here = ascent.perturbation(rule, G, W, 0.1)
    there = ascent.perturbation(rule, scaled_g, scaled_w, 0.1)
    for leaf in ("a", "b"):
        np.testing.assert_allclose(
            here[leaf] / W[leaf], there[leaf] / scaled_w[leaf], rtol=1e-14
        )


def test_random_perturbations_have_length_rho_and_ignore_the_gradient():
    rule = ascent.random(jax.random.key(1))
    received = flat(ascent.perturbation(rule, G, W, 0.1))
    np.testing.assert_allclose(np.linalg.norm(received), 0.1, rtol=1e-14)
    nan = jax.tree.map(lambda g: g * jnp.nan, G)
    np.testing.assert_array_equal(
        flat(ascent.perturbation(rule, nan, W, 0.1)), received
    )


def test_unnormalised_random_perturbations_have_deviation_rho():
    w = {"a": jnp.zeros(20000), "b": jnp.zeros((1, 1)), "n": jnp.array(0)}
    rule = ascent.random(jax.random.key(2), normalize=False)
    received = flat(ascent.perturbation(rule, w, w, 0.3))
    np.testing.assert_allclose(received.std(), 0.3, rtol=0.02)


def test_masked_leaves_stay_and_count_in_no_norm():
    mask = {"a": True, "b": False, "n": True}
    received = flat(ascent.perturbation(ascent.normalized, G, W, 0.1, mask))
    np.testing.assert_allclose(received, [0.06, 0.08, 0.0], rtol=1e-14)


def test_masks_of_arrays_or_another_structure_are_refused():
    bad = {"a": jnp.array([True, False]), "b": True, "n": True}
    with pytest.raises(ValueError, match="must be Python bools"):
        ascent.perturbation(ascent.normalized, G, W, 0.1, bad)
    with pytest.raises(ValueError, match="one Python bool for every parameter leaf"):
        ascent.perturbation(ascent.normalized, G, W, 0.1, {"a": True})


def test_a_gradient_of_another_structure_is_refused():
    with pytest.raises(ValueError, match="grad_fn must return a tree like params"):
        ascent.perturbation(ascent.normalized, {"a": G["a"]}, W, 0.1)


@pytest.mark.parametrize("size", [None, 0.04])
@pytest.mark.parametrize("normalize", [True, False])
def test_several_steps_are_projected_gradient_ascent(size, normalize):
    """Against a NumPy loop on a quadratic with gradient A w."""
    a, w = np.diag([1.0, 3.0, -2.0]), np.array([1.0, 0.5, 2.0])
    rho, step = 0.1, 0.1 if size is None else size
    expected = np.zeros(3)
    for _ in range(4):
        g = a @ (w + expected)
        expected = expected + step * (g / np.linalg.norm(g) if normalize else g)
        expected *= min(1, rho / np.linalg.norm(expected))
    received = ascent.ascend(
        lambda v: a @ v,
        jnp.asarray(w),
        rho,
        rule=ascent.normalized if normalize else ascent.unnormalized,
        steps=4,
        step_size=size,
    )
    np.testing.assert_allclose(received, expected, rtol=1e-13)


def test_a_single_unnormalised_step_is_projected_only_on_request():
    w, a = jnp.array([3.0, 4.0]), np.eye(2)

    def climb(size):
        return ascent.ascend(
            lambda v: a @ v, w, 0.5, rule=ascent.unnormalized, step_size=size
        )

    np.testing.assert_allclose(climb(None), [1.5, 2.0], rtol=1e-14)
    np.testing.assert_allclose(climb(0.5), [0.3, 0.4], rtol=1e-14)


def test_bf16_parameters_get_a_perturbation_of_the_right_length():
    w = {"a": jnp.linspace(-1, 1, 5000).astype(jnp.bfloat16)}
    received = ascent.perturbation(ascent.normalized, w, w, 0.1)
    np.testing.assert_allclose(
        np.linalg.norm(np.asarray(received["a"], np.float64)), 0.1, rtol=1e-5
    )
