"""The core's gradient on diagonal networks against loops and formulas of App. A."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from sam_jax.core import ascent, trees
from sam_jax.flows import fields, networks

N, D, RHO = 6, 5, 0.3
RNG = np.random.default_rng(0)
EXAMPLES = networks.Examples(
    jnp.asarray(RNG.standard_normal((N, D))), jnp.asarray(RNG.standard_normal(N))
)
PLUS, MINUS = RNG.uniform(0.2, 1.0, (2, D))
SQUARES, PRODUCT = networks.create("squares"), networks.create("product")


def weights(network):
    return network.join(jnp.asarray(PLUS), jnp.asarray(MINUS))


def loop(m):
    """Eq. 10 and 11 for the loss r^2 / 4, group by group, on NumPy arrays."""
    x, y = map(np.asarray, EXAMPLES)

    def slopes(plus, minus, rows):
        r = x[rows] @ (plus**2 - minus**2) - y[rows]
        pull = r @ x[rows] / len(r)
        return pull * plus, -pull * minus

    total = np.zeros((2, D))
    for start in range(0, N, m):
        rows = slice(start, start + m)
        up, down = slopes(PLUS, MINUS, rows)
        total += slopes(PLUS + RHO * up, MINUS + RHO * down, rows)
    return total * m / N


@pytest.mark.parametrize("m", [1, 2, 3, N])
def test_the_core_is_the_loop_over_groups(m):
    received = fields.gradient(SQUARES, weights(SQUARES), EXAMPLES, rho=RHO, m=m)
    np.testing.assert_allclose(np.stack(received.gradient), loop(m), rtol=1e-12)


def closed_form(network, params, rho, m):
    """The gradient of Eq. 10 and 11 (unnormalised ascent) without a derivative taken,
    from the residuals at the ascent points and the rate of alpha's shrinkage."""
    residuals = EXAMPLES.x @ network.beta(params) - EXAMPLES.y
    ascended = fields.ascended_residuals(network, params, EXAMPLES, rho=rho, m=m)
    a = ascended @ EXAMPLES.x / N
    b = rho * fields.shrinkage(EXAMPLES.x, residuals, ascended, m=m)
    if isinstance(params, networks.Squares):
        return networks.Squares(params.plus * (b + a), params.minus * (b - a))
    u, v = params
    return networks.Product(a * v + b * u, a * u + b * v)


@pytest.mark.parametrize("network", [SQUARES, PRODUCT], ids=["squares", "product"])
@pytest.mark.parametrize("m", [1, 2, N])
def test_the_closed_form_is_the_core(network, m):
    params = weights(network)
    expected = fields.gradient(network, params, EXAMPLES, rho=RHO, m=m).gradient
    received = closed_form(network, params, RHO, m)
    assert type(received) is type(params)
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("network", [SQUARES, PRODUCT], ids=["squares", "product"])
@pytest.mark.parametrize("m", [1, 2, N])
def test_ascended_residuals_are_those_at_the_ascent_points(network, m):
    params, expected = weights(network), []
    for start in range(0, N, m):
        group = jax.tree.map(lambda a, s=start: a[s : s + m], EXAMPLES)
        delta = ascent.ascend(
            lambda w, g=group: jax.grad(network.objective.value)(w, g),
            params,
            RHO,
            rule=ascent.unnormalized,
        )
        beta = network.beta(trees.add(params, delta))
        expected.append(group.x @ beta - group.y)
    received = fields.ascended_residuals(network, params, EXAMPLES, rho=RHO, m=m)
    np.testing.assert_allclose(received, np.concatenate(expected), rtol=1e-12)


def test_shrinkage_at_m_1_and_n_is_the_integrand_of_prop_5_and_4():
    x, r, ascended = (
        np.asarray(EXAMPLES.x),
        RNG.standard_normal(N),
        RNG.standard_normal(N),
    )
    given = jnp.asarray(r), jnp.asarray(ascended)
    sum_max = np.sum(x**2 * (r * ascended)[:, None], 0) / N
    max_sum = (x.T @ r) * (x.T @ ascended) / N**2
    for m, expected in ((1, sum_max), (N, max_sum)):
        received = fields.shrinkage(EXAMPLES.x, *given, m=m)
        np.testing.assert_allclose(received, expected, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 2, N])
def test_the_product_moves_w_plus_and_w_minus_as_the_squares_do(m):
    expected = fields.gradient(SQUARES, weights(SQUARES), EXAMPLES, rho=RHO, m=m)
    slope = fields.gradient(PRODUCT, weights(PRODUCT), EXAMPLES, rho=RHO, m=m).gradient
    for a, b in zip(PRODUCT.split(slope), expected.gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("transform", "m"),
    [
        (sam_jax.sum_max(RHO, normalize=False), 1),
        (sam_jax.sam(RHO, normalize=False), N),
    ],
)
def test_a_flow_and_a_training_step_have_one_gradient(transform, m):
    params, objective = weights(SQUARES), SQUARES.objective
    updates, _ = transform.update(
        jax.grad(objective.value)(params, EXAMPLES),
        transform.init(params),
        params,
        grad_fn=jax.grad(objective.value),
        objective=objective,
        batch=EXAMPLES,
    )
    expected = fields.gradient(SQUARES, params, EXAMPLES, rho=RHO, m=m).gradient
    for a, b in zip(updates, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_split_and_join_are_inverse_and_start_is_alpha():
    for network in (SQUARES, PRODUCT):
        plus, minus = network.split(weights(network))
        np.testing.assert_allclose(plus, PLUS, rtol=1e-14)
        np.testing.assert_allclose(minus, MINUS, rtol=1e-14)
        np.testing.assert_allclose(network.energy(weights(network)), PLUS**2 + MINUS**2)
        np.testing.assert_allclose(network.beta(weights(network)), PLUS**2 - MINUS**2)
    np.testing.assert_array_equal(SQUARES.start(0.1, 3), np.full((2, 3), 0.1))
    np.testing.assert_array_equal(PRODUCT.start(0.1, 2), [[0.1, 0.1], [0, 0]])


def test_smoothness_is_an_eigenvalue_of_the_hessian():
    x = jnp.asarray(RNG.standard_normal((1, D)))
    beta = jnp.asarray([0.5, 0.0, -2.0, 0.0, 0.0])
    params = networks.Squares(
        jnp.sqrt(jnp.maximum(beta, 0)), jnp.sqrt(jnp.maximum(-beta, 0))
    )
    batch = networks.Examples(x, x @ beta)
    hessian = jax.hessian(
        lambda w: SQUARES.objective.value(networks.Squares(w[:D], w[D:]), batch)
    )(jnp.concatenate(params))
    received = networks.smoothness(x, beta)
    np.testing.assert_allclose(received, np.linalg.eigvalsh(hessian)[-1], rtol=1e-12)
    linear = np.linalg.eigvalsh(EXAMPLES.x.T @ EXAMPLES.x / N)[-1]
    received = networks.smoothness(EXAMPLES.x, beta, "linear")
    np.testing.assert_allclose(received, linear, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "m", "match"),
    [
        ("minmax", 1, "erm.*max_sum.*sum_max"),
        ("erm", 2, "sum_max alone"),
        ("sum_max", 4, r"\[1, 2, 3, 6\]"),
        ("sum_max", 0, r"\[1, 2, 3, 6\]"),
    ],
)
def test_unknown_kinds_and_groups_that_do_not_fit_are_refused(kind, m, match):
    with pytest.raises(ValueError, match=match):
        fields.group_size(kind, m, N)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"cubes.*squares, product"):
        networks.create("cubes")
    with pytest.raises(ValueError, match="example, linear"):
        networks.smoothness(EXAMPLES.x, jnp.ones(D), "mean")
