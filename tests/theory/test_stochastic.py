"""Expectations, exact or to within their errors, stay below the corrected bounds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_jax.theory import constants, corrected, printed
from sam_jax.theory.constants import Constants
from sam_jax.toys import functions, trajectories

FUNCTIONS = {
    "quadratic": functions.quadratic([0.3, 2.0]),
    "sine_squared": functions.sine_squared(),
    "cosine": functions.cosine(),
}
# L' is 1 up to w = 1, and falls with slope -1 beyond: smooth, not bounded below.
KINKED = functions.Function(
    lambda w: jnp.sum(w - jnp.maximum(w - 1, 0) ** 2 / 2), beta=1.0
)
STARTS = st.tuples(*[st.floats(-6, 6)] * 2)
check = settings(max_examples=60, deadline=None, derandomize=True)


@functools.cache
def expected_step(name, own):
    """(w, shifts, gamma, rho) -> a step's expectation over the four batches of one.

    With `own` the ascent has a batch of its own: over all 16 pairs.
    """
    function = KINKED if name == "kinked" else FUNCTIONS[name]

    @jax.jit
    def step(w, shifts, gamma, rho):
        return trajectories.expected_step(
            function, w, shifts, gamma=gamma, rho=rho, own_ascent_batch=own
        )

    return step


def take(name, own, start, direction, s, a):
    beta = 1.0 if name == "kinked" else FUNCTIONS[name].beta
    half = np.array([np.multiply(1.1, direction), direction])
    shifts = np.concatenate([half, -half])
    c = Constants(beta, s / beta, a / beta, variance=float((shifts**2).sum(1).mean()))
    step = expected_step(name, own)
    return c, *map(float, step(jnp.array(start), jnp.array(shifts), c.gamma, c.rho))


def below(value, bound):
    return value <= bound + 1e-9 * abs(bound) + 1e-12


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
@check
@given(STARTS, STARTS, st.floats(0, 3))
def test_lemmas_13_and_16(name, own, start, direction, a):
    c, _, gradient2, aligned, _ = take(name, own, start, direction, 0.5, a)
    lemma = corrected.lemma_13 if own else corrected.lemma_16
    assert below(lemma(c, gradient2), aligned)


@pytest.mark.parametrize(
    ("name", "start", "direction", "a"),
    [
        # Noise of half a period turns the expected gradient round.
        ("cosine", (1.5, 1.5), (6.0, 6.0), 0.5),
        # Noise on one side of the kink lowers the gradient, on the other it does not.
        ("kinked", (0.99, 0.99), (50.0, 50.0), 0.01),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_no_term_of_lemmas_13_and_16_can_be_left_out(name, own, start, direction, a):
    c, _, gradient2, aligned, _ = take(name, own, start, direction, 0.5, a)
    lemma = corrected.lemma_13 if own else corrected.lemma_16
    assert below(lemma(c, gradient2), aligned)
    half, variance = gradient2 / 2, a**2 * c.variance / 2
    if name == "cosine":
        assert not below(lemma(c, gradient2) + variance, aligned)
    else:
        assert not below(lemma(c, gradient2) + half, aligned)


@pytest.mark.parametrize("name", FUNCTIONS)
@check
@given(STARTS, STARTS, st.floats(0, 0.5), st.floats(0, 0.5))
def test_lemma_14(name, start, direction, s, a):
    c, loss, gradient2, _, after = take(name, True, start, direction, s, a)
    assert below(after, corrected.lemma_14(c, loss, gradient2))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
@check
@given(STARTS, STARTS, st.floats(0, 1), st.floats(0, 0.25))
def test_lemma_17_and_that_max_sum_obeys_it(name, own, start, direction, s, a):
    # With gamma beta <= 1/2 MaxSum descends as fast: what Prop. 12 needs under (A3).
    c, loss, gradient2, _, after = take(name, own, start, direction, s / (1 + own), a)
    tight = corrected.lemma_17(c, loss, gradient2)
    assert below(after, tight)
    assert below(tight, printed.lemma_17(c, loss, gradient2))


@pytest.mark.parametrize(
    ("lemma", "proposition", "rate", "s", "a"),
    [
        (corrected.lemma_14, corrected.proposition_15, 1 / 4, 0.5, 0.5),
        (corrected.lemma_17, corrected.proposition_18, 3 / 8, 1.0, 0.25),
    ],
)
def test_propositions_15_and_18_are_the_sums_of_their_lemmas(
    lemma, proposition, rate, s, a
):
    # Let every step be exactly as bad as the lemma allows, at random gradients.
    c = Constants(2.0, s / 2, a / 2, variance=0.7)
    gradient2 = np.random.default_rng(0).uniform(0, 3, 50)
    losses = [100.0]
    for square in gradient2:
        losses.append(lemma(c, losses[-1], square))
    bound = proposition(c, losses[0] - losses[-1], 50)
    np.testing.assert_allclose(gradient2.mean(), bound, rtol=1e-12)


def test_printed_noise_terms_grow_with_the_number_of_steps():
    c = Constants(2.0, 0.1, 0.1, variance=0.7)
    for name in ("proposition_15", "proposition_18"):
        tight, loose = getattr(corrected, name), getattr(printed, name)
        assert loose(c, 0.0, 100) == pytest.approx(100 * tight(c, 0.0, 100))
        assert loose(c, 3.0, 1) == tight(c, 3.0, 1)


@functools.cache
def mean_over_seeds(name, own, steps, scheduled):
    """(gap, mean of E |grad L|^2 over t < T, E L(w_T)) over 2000 seeds."""
    function = FUNCTIONS[name]
    start = jnp.array([2.0, -1.5])
    shifts = jnp.array([[1.0, -2.0], [-1.0, 2.0]])
    fixed = constants.slow_steps(function.beta, steps)

    def sizes(t):
        return constants.decreasing_steps(t, function.beta, function.mu)

    def run(key):
        return trajectories.stochastic(
            function,
            start,
            shifts,
            key,
            gamma=(lambda t: sizes(t).gamma) if scheduled else fixed.gamma,
            rho=(lambda t: sizes(t).rho) if scheduled else fixed.rho,
            times=jnp.arange(steps + 1),
            own_ascent_batch=own,
        )

    seen = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2000))
    mean = jax.tree.map(lambda x: np.asarray(x).mean(0), seen)
    return float(mean.loss[0]), float(mean.gradient2[:-1].mean()), mean.loss


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_propositions_2_and_12_at_their_least_number_of_steps(name, own):
    steps = 16 if own else 256
    gap, received, _ = mean_over_seeds(name, own, steps, False)
    c = Constants(FUNCTIONS[name].beta, variance=5.0)
    bound = (
        corrected.proposition_12_gradient if own else corrected.proposition_2_gradient
    )
    assert received < bound(c, gap, steps)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["quadratic", "sine_squared"])
def test_propositions_2_and_12_under_pl(name, own):
    _, _, loss = mean_over_seeds(name, own, 300, True)
    function = FUNCTIONS[name]
    c = Constants(function.beta, mu=function.mu, variance=5.0)
    bound = corrected.proposition_2_loss(c, loss[0], np.arange(1, 301))
    assert np.all(loss[1:] < bound)


def worst_recursion(c, gap, steps):
    """e_{t+1} = (1 - 3/4 gamma mu) e_t + 2 gamma^2 beta variance: Lemma 17 and (A3)."""
    gammas = np.asarray(constants.decreasing_steps(np.arange(steps), c.beta, c.mu)[0])
    errors = [gap]
    for gamma in gammas:
        kick = 2 * gamma**2 * c.beta * c.variance
        errors.append((1 - 0.75 * gamma * c.mu) * errors[-1] + kick)
    return np.array(errors[1:])


@pytest.mark.parametrize("beta", [1.0, 3.0, 40.0])
@pytest.mark.parametrize(("gap", "variance"), [(1.0, 0.0), (0.0, 1.0), (1.0, 0.01)])
def test_the_pl_bound_covers_its_recursion_and_247_is_needed(beta, gap, variance):
    c = Constants(beta, mu=1.0, variance=variance)
    steps = np.arange(1, 8001)
    errors = worst_recursion(c, gap, 8000)
    assert np.all(errors <= corrected.proposition_2_loss(c, gap, steps))
    if variance == 0:
        tight = errors / corrected.proposition_2_loss(c, gap, steps)
        assert tight.max() > 0.94
        assert np.any(errors > printed.proposition_2_loss(c, gap, steps))


def test_the_printed_constant_3_fails_on_a_quadratic():
    # Curvature mu in a direction of a function that is beta-smooth: L(w_T) decays as
    # (1 - gamma mu (1 + rho mu))^(2 T), and gamma is at its cap for the first steps.
    beta, mu, steps = 100.0, 1.0, 1600
    function = functions.quadratic([mu, beta])
    seen = trajectories.deterministic(
        function,
        np.array([1.0, 0.0]),
        gamma=lambda t: constants.decreasing_steps(t, beta, mu).gamma,
        rho=lambda t: constants.decreasing_steps(t, beta, mu).rho,
        times=np.arange(steps + 1),
    )
    c, t = Constants(beta, mu=mu), np.arange(1, steps + 1)
    loss = np.asarray(seen.loss)
    assert np.any(loss[1:] > 5 * printed.proposition_2_loss(c, loss[0], t))
    assert np.all(loss[1:] < corrected.proposition_2_loss(c, loss[0], t))


@pytest.mark.parametrize("beta", [0.1, 10.0])
def test_the_printed_constant_4_over_beta_fails_for_beta_above_1(beta):
    # 1/2 beta w^2 without noise: the mean is a geometric sum.
    steps = 256
    gamma, rho = constants.slow_steps(beta, steps)
    squares = beta**2 * (1 - gamma * beta * (1 + rho * beta)) ** (2 * np.arange(steps))
    c = Constants(beta)
    assert squares.mean() < corrected.proposition_2_gradient(c, beta / 2, steps)
    wrong = printed.proposition_2_gradient(c, beta / 2, steps)
    assert (squares.mean() > wrong) == (beta > 1)


def test_schedules_are_their_formulas():
    gamma, rho = constants.slow_steps(2.0, 256)
    assert (gamma, rho) == (1 / 32, 1 / 8)
    steps = constants.decreasing_steps(np.array([0, 1000]), 2.0, 0.5)
    late = 8004 / (1.5 * 1001**2)
    np.testing.assert_allclose(steps.gamma, [1 / 32, late])
    np.testing.assert_allclose(steps.rho, [1 / 8, (late / 2) ** 0.5])
