"""No trajectory of deterministic SAM breaks a corrected bound; printed ones do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_jax.theory import corrected, printed
from sam_jax.theory.constants import Constants
from sam_jax.toys import functions, trajectories

STEPS = 40
FUNCTIONS = {
    "quadratic": functions.quadratic([0.3, 2.0]),
    "sine_squared": functions.sine_squared(),
    "pseudo_huber": functions.pseudo_huber(),
    "cosine": functions.cosine(),
    "one_sided": functions.one_sided(7.0, 0.01, 0.9, 1000.0),
}
SMOOTH = list(FUNCTIONS)
CONVEX = ["quadratic", "pseudo_huber", "one_sided"]
STRONG = ["quadratic", "one_sided"]
PL = ["quadratic", "sine_squared", "one_sided"]

STARTS = st.tuples(*[st.floats(-6, 6)] * 2)
FRACTIONS = st.floats(0.01, 0.99)
check = settings(max_examples=60, deadline=None, derandomize=True)


@functools.cache
def runner(name):
    function = FUNCTIONS[name]

    @jax.jit
    def run(w, gamma, rho):
        seen = trajectories.deterministic(
            function, w, gamma=gamma, rho=rho, times=jnp.arange(STEPS + 1)
        )
        slope = jax.grad(function.value)
        aligned = jax.vmap(lambda w: slope(w + rho * slope(w)) @ slope(w))(seen.w)
        means = jnp.cumsum(seen.w[:-1], 0) / jnp.arange(1, STEPS + 1)[:, None]
        return seen, aligned, jax.vmap(function.value)(means)

    return run


def run(name, start, s, a, mu=0.0):
    """Constants with gamma beta = s and rho beta = a, and what was seen with them."""
    beta = FUNCTIONS[name].beta
    c = Constants(beta, s / beta, a / beta, mu)
    return c, *jax.device_get(runner(name)(jnp.array(start), c.gamma, c.rho))


def below(values, bound):
    """values <= bound, up to rounding of values and of the iterates."""
    values, bound = np.asarray(values), np.asarray(bound)
    return np.all(values <= bound + 1e-9 * np.abs(bound) + 1e-18)


def mean_gradient2(seen):
    return np.cumsum(seen.gradient2[:-1]) / np.arange(1, STEPS + 1)


T = np.arange(1, STEPS + 1)


@pytest.mark.parametrize("name", SMOOTH)
@check
@given(STARTS, FRACTIONS, st.floats(0, 3))
def test_lemma_7_and_lemma_8(name, start, s, a):
    function = FUNCTIONS[name]
    c, seen, aligned, _ = run(name, start, s, a)
    alphas = [-function.beta]
    if function.strong is not None:
        alphas += [0.0, function.strong]
    for alpha in alphas:
        assert below(corrected.lemma_7(c, seen.gradient2, alpha), aligned)
    bound = corrected.lemma_8(c, seen.loss[:-1], seen.gradient2[:-1])
    assert below(seen.loss[1:], bound)


@pytest.mark.parametrize("name", CONVEX)
@check
@given(STARTS, FRACTIONS, st.floats(0, 50))
def test_lemma_8_convex(name, start, fraction, a):
    c, seen, _, _ = run(name, start, 2 * fraction / (2 + a), a, FUNCTIONS[name].strong)
    bound = corrected.lemma_8_convex(c, seen.loss[:-1], seen.gradient2[:-1])
    assert below(seen.loss[1:], bound)


@pytest.mark.parametrize("name", SMOOTH)
@check
@given(STARTS, FRACTIONS, FRACTIONS)
def test_propositions_6_and_9(name, start, s, a):
    c, seen, _, _ = run(name, start, s, a)
    decrease = seen.loss[0] - seen.loss[1:]
    means = mean_gradient2(seen)
    tight = corrected.proposition_9(c, decrease, T)
    assert below(means, tight)
    assert below(tight, printed.proposition_9(c, decrease, T))
    assert below(means, corrected.proposition_6_gradient(c, seen.loss[0], T))


@pytest.mark.parametrize("name", PL)
@check
@given(STARTS, FRACTIONS, FRACTIONS)
def test_propositions_6_and_10_under_pl(name, start, s, a):
    c, seen, _, _ = run(name, start, s, a, FUNCTIONS[name].mu)
    tight = corrected.proposition_10(c, seen.loss[0], T)
    assert below(seen.loss[1:], tight)
    assert below(tight, corrected.proposition_6_loss(c, seen.loss[0], T))


@pytest.mark.parametrize("name", CONVEX)
@check
@given(STARTS, FRACTIONS, st.floats(0, 150))
def test_proposition_11(name, start, fraction, a):
    strong = FUNCTIONS[name].strong
    c, seen, _, loss_of_mean = run(name, start, 2 * fraction / (1 + a), a, strong)
    distance2 = np.sum(seen.w**2, axis=1)
    assert below(loss_of_mean, corrected.proposition_11_loss(c, distance2[0], T))
    bound = corrected.proposition_11_distance(c, distance2[0], T)
    assert below(distance2[1:], bound)


def test_lemma_8_convex_as_printed_fails_on_a_quadratic():
    # gamma beta = 1, rho beta = 2: L goes from 0.5 to 2.
    c = Constants(beta=1.0, gamma=1.0, rho=2.0, mu=0.0)
    seen = trajectories.deterministic(
        functions.quadratic([1.0]), np.ones(1), gamma=1.0, rho=2.0, times=np.arange(2)
    )
    np.testing.assert_allclose(seen.loss, [0.5, 2.0])
    assert seen.loss[1] > printed.lemma_8_convex(c, 0.5, 1.0) == 0.0
    with pytest.raises(ValueError, match=r"gamma beta \(2 \+ rho beta\) <= 2"):
        corrected.lemma_8_convex(c, 0.5, 1.0)


def test_lemma_8_convex_fails_under_pl_alone():
    # Step sizes that even the corrected condition allows.
    function = functions.sine_squared()
    c = Constants(8.0, 0.35 / 8, 0.5 / 8, function.mu)
    seen = trajectories.deterministic(
        function, np.array([10.1]), gamma=c.gamma, rho=c.rho, times=np.arange(2)
    )
    bound = corrected.lemma_8_convex(c, seen.loss[0], seen.gradient2[0])
    assert seen.loss[1] > bound + 1


def test_proposition_11_distance_as_printed_fails():
    function = FUNCTIONS["one_sided"]
    c, seen, _, _ = run("one_sided", (1.0, -1.4), 1.8 / 101, 100.0, function.strong)
    distance2 = np.sum(seen.w**2, axis=1)
    wrong = printed.proposition_11_distance(c, distance2[0], T)
    assert distance2[10] > 1.2 * wrong[9]
    assert below(distance2[1:], corrected.proposition_11_distance(c, distance2[0], T))


@pytest.mark.parametrize("gamma", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_printed_proposition_9_is_its_statement(gamma, rho):
    c = Constants(beta=1.0, gamma=gamma, rho=rho)
    expected = 3.0 / (7 * gamma * (1 - rho) * (1 - gamma * (1 - rho)))
    np.testing.assert_allclose(printed.proposition_9(c, 3.0, 7), expected, rtol=1e-12)


CONDITIONS = {
    "lemma_8": (Constants(2.0, 0.6, 0.1), (1.0, 1.0), "gamma beta <= 1"),
    "lemma_8_convex": (Constants(2.0, 0.6, 0.9), (1.0, 1.0), "2 .* <= 2"),
    "proposition_6_gradient": (Constants(2.0, 0.6, 0.1), (1.0, 5), "gamma < 1"),
    "proposition_6_loss": (Constants(2.0, 0.4, 0.6, 0.1), (1.0, 5), "rho < 1"),
    "proposition_9": (Constants(2.0, 0.0, 0.1), (1.0, 5), "0 < gamma"),
    "proposition_10": (Constants(2.0, 0.1, 0.6), (1.0, 5), "Prop. 10 needs"),
    "proposition_11_loss": (Constants(2.0, 0.9, 0.6), (1.0, 5), r"\(1 \+ rho beta\)"),
    "proposition_11_distance": (Constants(2.0, 0.0, 0.6), (1.0, 5), "gamma > 0"),
    "lemma_7": (Constants(2.0, 0.1, -0.6), (1.0, 0.0), "finite constants"),
    "lemma_14": (Constants(2.0, 0.3, 0.1), (1.0, 1.0), "gamma beta <= 0.5"),
    "proposition_15": (Constants(2.0, 0.1, 0.3), (1.0, 9), "rho beta <= 0.5"),
    "lemma_17": (Constants(2.0, 0.1, 0.2), (1.0, 1.0), "rho beta <= 0.25"),
    "proposition_18": (Constants(2.0, 0.6, 0.1), (1.0, 9), "gamma beta <= 1 "),
    "proposition_2_gradient": (Constants(2.0), (1.0, 255), "T >= 256"),
    "proposition_12_gradient": (Constants(2.0), (1.0, 15), "T >= 16"),
    "proposition_2_loss": (Constants(2.0, mu=3.0), (1.0, 9), "mu <= beta"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_checked_and_named(name):
    constants, arguments, message = CONDITIONS[name]
    with pytest.raises(ValueError, match=message):
        getattr(corrected, name)(constants, *arguments)
