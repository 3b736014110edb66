"""Flows: their limits certified, their integrals against another solver, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from sam_jax import flows
from sam_jax.flows import dynamics, solver
from sam_jax.toys import sparse_regression

KINDS = ("erm", "max_sum", "sum_max")
SMALL = sparse_regression.sample(0, n=3, d=5, nonzeros=2)
solve_small = functools.partial(flows.solve, SMALL.x, SMALL.y)


def with_printed_alpha(solution, alpha, rho):
    """alpha_effective with the constants 1 / (4 n^2) and 1 / (4 n) of the print."""
    return solution._replace(alpha_effective=alpha * jnp.exp(-rho * solution.delta / 4))


def test_limits_are_the_minimisers_of_prop_3_4_and_5():
    data = sparse_regression.sample([0, 7], n=3, d=5, nonzeros=2)
    alphas = np.asarray([0.01, 0.1])
    for kind in KINDS:
        found = flows.solve(
            data.x, data.y, alpha=alphas, rho=0.1, kind=kind, stop_loss=1e-16
        )
        passed = flows.certificate(found, data.x, data.y)
        assert found.beta.shape == (2, 5)
        assert np.all(passed.passed)
        assert np.all(passed.distance < 2e-7)
        assert np.all(passed.kkt < 1e-9)
        if kind == "erm":
            continue
        printed = with_printed_alpha(found, alphas[..., None], 0.1)
        wrong = flows.certificate(printed, data.x, data.y)
        assert np.all(wrong.distance > 100 * passed.distance)
        assert not np.any(wrong.passed)


@pytest.mark.heavy
@pytest.mark.parametrize("stop_loss", [1e-12, 1e-16])
@pytest.mark.parametrize("parametrization", ["squares", "product"])
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_seeds_are_certified_for_every_alpha(kind, parametrization, stop_loss):
    data = sparse_regression.sample(range(20))
    for alpha in (1e-3, 0.01, 0.1, 1.0):
        found = flows.solve(
            data.x,
            data.y,
            alpha=alpha,
            rho=0.1,
            kind=kind,
            parametrization=parametrization,
            stop_loss=stop_loss,
        )
        passed = flows.certificate(found, data.x, data.y)
        assert np.all(passed.passed)
        loss = 2 if parametrization == "product" else 1  # of the same residuals
        assert np.all(passed.distance < 20 * np.sqrt(loss * stop_loss))
        assert np.all(passed.kkt < 1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_against_lsoda_on_app_a_written_out(kind):
    """Weights, Delta, nu and the loss integral, from NumPy formulas and another solver.

    Prop. 4 and 5 in their corrected form: 1 / n^2 and 1 / n.
    """
    x, y, _ = SMALL
    n, d = x.shape
    alpha, rho = 0.3, 0.0 if kind == "erm" else 0.1

    def rates(t, state):
        plus, minus = state[:d], state[d : 2 * d]
        r = x @ (plus**2 - minus**2) - y
        if kind == "sum_max":
            shift = rho * r[:, None] * x
            there = np.sum(
                x * ((plus * (1 + shift)) ** 2 - (minus * (1 - shift)) ** 2), 1
            )
            there -= y
            up = there @ (x * plus * (1 + shift)) / n
            down = -there @ (x * minus * (1 - shift)) / n
            delta = (r * there) @ x**2 / n
            leading = (r * r) @ x**2 / n
        else:
            shift = rho * r @ x / n
            there = x @ ((plus * (1 + shift)) ** 2 - (minus * (1 - shift)) ** 2) - y
            up = there @ x / n * plus * (1 + shift)
            down = -(there @ x) / n * minus * (1 - shift)
            delta = (there @ x) * (r @ x) / n**2
            leading = (r @ x) ** 2 / n**2
        loss = [np.mean(r**2) / 4]
        return np.concatenate([-up, -down, delta, leading, -2 / n * there, loss])

    found = solve_small(alpha=alpha, rho=rho, kind=kind, stop_loss=1e-20)
    start = np.concatenate([np.full(2 * d, alpha), np.zeros(2 * d + n + 1)])
    end = scipy.integrate.solve_ivp(
        rates, (0, float(found.end)), start, "LSODA", rtol=1e-11, atol=1e-13
    ).y[:, -1]
    plus, minus, delta, leading, nu, loss = np.split(end, np.cumsum([d, d, d, d, n]))
    tight = {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose(found.beta, plus**2 - minus**2, **tight)
    np.testing.assert_allclose(found.delta, delta, **tight)
    np.testing.assert_allclose(found.delta_leading, leading, **tight)
    np.testing.assert_allclose(found.nu, nu, **tight)
    np.testing.assert_allclose(found.loss_integral, loss[0], **tight)
    np.testing.assert_allclose(found.alpha_effective, np.sqrt(plus * minus), **tight)
    np.testing.assert_allclose(
        found.alpha_leading, alpha * np.exp(-rho * leading), **tight
    )


def test_the_explicit_solver_agrees():
    options = {"alpha": 0.3, "rho": 0.1, "kind": "sum_max", "stop_loss": 1e-20}
    stiff = solve_small(**options)
    explicit = solve_small(**options, stiff=False, rtol=1e-10)
    assert explicit.steps != stiff.steps
    np.testing.assert_allclose(explicit.beta, stiff.beta, atol=1e-8)
    np.testing.assert_allclose(
        explicit.alpha_effective, stiff.alpha_effective, rtol=1e-7
    )
    middle = slice(50, 150)  # where both still move
    np.testing.assert_allclose(explicit.betas[middle], stiff.betas[middle], atol=1e-5)


@pytest.mark.parametrize("kind", ["max_sum", "sum_max"])
def test_the_leading_order_is_off_by_rho_squared(kind):
    rhos = np.asarray([0.01, 0.02, 0.04])
    found = solve_small(alpha=0.3, rho=rhos, kind=kind, rtol=1e-10)
    gap = np.linalg.norm(
        np.log(found.alpha_effective) - np.log(found.alpha_leading), axis=-1
    )
    slopes = np.diff(np.log(gap)) / np.log(2)
    assert np.all((slopes > 1.9) & (slopes < 2.1))


def test_groups_reach_from_sum_max_to_max_sum():
    common = {"alpha": 0.3, "rho": 0.1}
    whole = solve_small(**common, kind="sum_max", m=3)
    np.testing.assert_array_equal(
        whole.beta, solve_small(**common, kind="max_sum").beta
    )
    data = sparse_regression.sample(1, n=4, d=5)
    pairs = flows.solve(data.x, data.y, **common, kind="sum_max", m=2, stiff=False)
    assert flows.certificate(pairs, data.x, data.y).passed


def test_rho_zero_is_erm():
    expected = solve_small(alpha=0.3)
    received = solve_small(alpha=0.3, rho=0.0, kind="sum_max")
    np.testing.assert_allclose(received.beta, expected.beta, atol=1e-6)
    np.testing.assert_array_equal(received.alpha_effective, 0.3)


def test_the_product_from_two_alpha_is_the_squares_from_alpha():
    common = {"rho": 0.1, "kind": "max_sum"}
    squares = solve_small(alpha=0.3, stop_loss=1e-12, **common)
    product = solve_small(
        alpha=0.6, stop_loss=2e-12, parametrization="product", **common
    )
    np.testing.assert_allclose(product.beta, squares.beta, rtol=1e-12)
    np.testing.assert_allclose(product.losses, 2 * squares.losses, rtol=1e-9)
    np.testing.assert_allclose(product.loss_integral, 2 * squares.loss_integral)
    np.testing.assert_allclose(product.alpha_effective, squares.alpha_effective)


def test_the_trajectory_starts_at_zero_and_ends_at_the_limit():
    found = solve_small(alpha=0.3, times=np.geomspace(1e-9, 1e6, 301))
    np.testing.assert_allclose(found.betas[0], 0, atol=1e-8)
    np.testing.assert_allclose(found.losses[0], np.mean(SMALL.y**2) / 4, rtol=1e-8)
    np.testing.assert_array_equal(found.betas[-1], found.beta)
    assert found.t[-1] == found.end
    assert np.all(np.diff(found.t) >= 0)
    assert np.all(np.diff(found.losses) <= 0)
    residuals = np.asarray(found.betas) @ SMALL.x.T - SMALL.y
    np.testing.assert_allclose(found.losses, np.mean(residuals**2, -1) / 4, rtol=1e-6)


def test_other_values_compile_nothing_anew():
    other = sparse_regression.sample(5, n=3, d=5, nonzeros=2)
    solve_small(alpha=0.3, rho=0.1, kind="max_sum")
    before = solver._solve._cache_size()
    flows.solve(other.x, other.y, alpha=0.1, kind="erm", stop_loss=1e-9, rtol=1e-7)
    solve_small(alpha=1.0, rho=0.2, kind="max_sum", parametrization="product")
    assert solver._solve._cache_size() == before


def test_a_grid_is_its_single_problems():
    rhos = jnp.asarray([0.05, 0.1, 0.2])
    grid = solve_small(alpha=0.3, rho=rhos, kind="sum_max")
    for i, rho in enumerate(rhos):
        single = solve_small(alpha=0.3, rho=rho, kind="sum_max")
        np.testing.assert_allclose(grid.beta[i], single.beta, rtol=1e-9)
        np.testing.assert_allclose(grid.end[i], single.end, rtol=1e-6)


def test_flows_can_be_mapped_and_compiled_side_by_side():
    def limits(rho):
        alphas = np.asarray([0.3, 0.4])
        return solve_small(alpha=alphas, rho=rho, kind="sum_max", stiff=False).beta

    rhos = jnp.asarray([0.05, 0.1])
    expected = [limits(rho) for rho in rhos]  # on a CPU one after the other
    received = jax.vmap(limits)(rhos)
    np.testing.assert_allclose(received, expected, rtol=1e-9)


def test_a_rho_that_makes_the_origin_attractive_is_reported():
    data = SMALL.x, SMALL.y
    options = {"alpha": 0.01, "rho": np.asarray([0.0, 0.1, 50.0]), "kind": "sum_max"}
    with pytest.raises(ValueError, match=r"\[2\].*rho=50.*came to rest.*smaller rho"):
        flows.solve(*data, **options)
    flagged = flows.solve(*data, **options, throw=False)
    np.testing.assert_array_equal(flagged.reached, [True, True, False])
    np.testing.assert_array_equal(flagged.stalled, [False, False, True])
    passed = flows.certificate(flagged, *data).passed
    np.testing.assert_array_equal(passed, [True, True, False])


def test_a_loss_that_rises_is_reported(monkeypatch):
    monkeypatch.setattr(dynamics, "BLOW_UP", 1e-3)  # no real flow was seen to blow up
    data = sparse_regression.sample(3, n=2, d=3)
    with pytest.raises(ValueError, match="diverges; give a smaller rho"):
        flows.solve(data.x, data.y, alpha=0.3, stop_loss=1e-30, stiff=False)


def test_running_out_of_steps_is_reported():
    with pytest.raises(ValueError, match=r"10 steps: out of steps.*max_steps"):
        solve_small(alpha=0.3, stiff=False, max_steps=10)


def test_data_without_an_interpolator_are_refused():
    x, y = np.concatenate([SMALL.x, SMALL.x[:1]]), np.append(SMALL.y, 1.0)
    with pytest.raises(ValueError, match=r"no beta interpolates.* 1 of 1"):
        flows.solve(x, y, alpha=0.1)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"alpha": 0.0}, "alpha=0.0.*> 0"),
        ({"alpha": np.asarray([0.1, -1.0])}, "alpha=-1.0"),
        ({"rho": -0.1}, "rho=-0.1.*>= 0"),
        ({"stop_loss": 0.0}, "stop_loss"),
        ({"rtol": -1.0}, "rtol"),
        ({"max_steps": 0}, "max_steps"),
        ({"times": np.asarray([1.0, 0.5])}, "increasing"),
        ({"times": np.asarray([0.0, np.inf])}, "finite, increasing numbers"),
        ({"times": np.asarray([0.0, np.nan])}, "finite, increasing numbers"),
        ({"kind": "minmax"}, "erm"),
        ({"m": 3}, "sum_max alone"),
        ({"parametrization": "cubes"}, "squares, product"),
        ({"y": SMALL.y[:2]}, r"\(3, 5\).*\(2,\)"),
        ({"x": SMALL.x[0]}, "n examples of d features"),
        ({"x": np.full((3, 5), np.nan)}, "x with entries that are not finite"),
        ({"alpha": np.ones(2), "rho": np.ones(3)}, "do not broadcast"),
    ],
)
def test_unsuitable_arguments_are_refused(change, match):
    arguments = {"x": SMALL.x, "y": SMALL.y, "alpha": 0.1} | change
    with pytest.raises(ValueError, match=match):
        flows.solve(**arguments)


def test_float32_mode_is_refused_with_the_way_out():
    with jax.enable_x64(False), pytest.raises(ValueError, match="JAX_ENABLE_X64=1"):
        solve_small(alpha=0.1)


def test_a_tolerance_of_ones_own_decides():
    found = solve_small(alpha=0.3, stop_loss=1e-8)
    assert flows.certificate(found, SMALL.x, SMALL.y).passed
    assert not flows.certificate(found, SMALL.x, SMALL.y, tolerance=1e-12).passed


ANYWHERE = np.random.default_rng(0).normal(size=(2, 5)) * 0.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parametrization", ["squares", "product"])
def test_any_start_is_certified(kind, parametrization):
    """Random numbers of both signs: beta(0) is not 0, and every feature has an alpha
    and a shift of its own."""
    found = solve_small(
        start=tuple(ANYWHERE), rho=0.05, kind=kind, parametrization=parametrization
    )
    first, second = ANYWHERE
    plus, minus = first, second
    if parametrization == "product":
        plus, minus = (first + second) / 2, (first - second) / 2
    np.testing.assert_allclose(found.betas[0], plus**2 - minus**2, atol=2e-2)
    np.testing.assert_allclose(found.shift, np.log(abs(plus / minus)), rtol=1e-12)
    passed = flows.certificate(found, SMALL.x, SMALL.y)
    assert passed.passed
    assert passed.kkt < 1e-6
    unshifted = found._replace(shift=0 * found.shift)
    assert not flows.certificate(unshifted, SMALL.x, SMALL.y).passed


def test_a_start_written_out_is_that_of_alpha():
    ones = np.ones(5)
    expected = solve_small(alpha=0.1, rho=0.1, kind="sum_max")
    received = solve_small(start=(0.1 * ones, 0.1 * ones), rho=0.1, kind="sum_max")
    for name in ("betas", "alpha_effective", "nu", "shift"):
        np.testing.assert_array_equal(getattr(received, name), getattr(expected, name))
    layers = 0.1 * ones, 0 * ones
    product = solve_small(start=layers, rho=0.1, parametrization="product")
    same = solve_small(alpha=0.1, rho=0.1, parametrization="product")
    np.testing.assert_array_equal(product.betas, same.betas)


def test_starts_have_batch_axes():
    halves = np.stack([ANYWHERE, 2 * ANYWHERE], 1)  # [2, problems, d]
    found = flows.solve(
        SMALL.x, SMALL.y, start=tuple(halves), rho=np.zeros(2), stop_loss=1e-10
    )
    for i in range(2):
        alone = solve_small(start=tuple(halves[:, i]), stop_loss=1e-10)
        np.testing.assert_array_equal(found.beta[i], alone.beta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Received neither of alpha and start"),
        ({"alpha": 0.1, "start": tuple(ANYWHERE)}, "Received both of alpha and start"),
        ({"start": (np.ones(5), np.zeros(5))}, "start with 0.0; .* other than 0"),
        ({"start": (np.ones(5), np.full(5, np.nan))}, "start with nan"),
        ({"start": (np.ones(4), np.ones(4))}, r"start of shape \(4,\) for problems"),
    ],
)
def test_unsuitable_starts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        solve_small(**options)
