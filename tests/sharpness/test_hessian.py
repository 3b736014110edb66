import jax
import jax.numpy as jnp
import matfree.decomp
import matfree.stochtrace
import numpy as np
import pytest

from sam_jax import models, sharpness
from sam_jax.core.objective import Objective
from sam_jax.sharpness import hessian as hessians
from tests.sharpness.problems import SQUARES, problem

KEY = jax.random.key(0)


def spectrum(eigenvalues, seed=0):
    """Parameters and a batch whose Hessian has these eigenvalues."""
    d = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    x = np.sqrt(d * np.array(eigenvalues))[:, None] * q
    return {"w": jnp.ones(d)}, {"x": jnp.asarray(x)}


def test_products_are_those_of_the_dense_hessian():
    params, batch, expected = problem()
    v = {"w": jnp.arange(5.0)}
    received = sharpness.hessian_vector_product(SQUARES, params, batch, v)
    np.testing.assert_allclose(received["w"], expected @ v["w"], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("conv_net", {"widths": (3, 4), "hidden": 5}),
        pytest.param(
            *("preact_resnet18", {"width": 2, "norm": "group"}),
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_products_of_networks_are_differences_of_gradients(name, options):
    module = models.create(name, num_classes=3, **options)
    images = jax.random.normal(KEY, (4, 8, 8, 1))
    params = models.initialize(module, KEY, (8, 8, 1), jnp.float64)["params"]
    objective = Objective(
        lambda p, batch: module.apply({"params": p}, batch["x"], train=False),
        lambda z, batch: -jax.nn.log_softmax(z)[:, 0],
    )
    batch = {"x": images}
    v = jax.tree.map(lambda x: jax.random.normal(KEY, x.shape), params)
    gradient = jax.jit(jax.grad(lambda p: objective.value(p, batch)))
    step = 1e-6
    ahead, behind = (
        gradient(jax.tree.map(lambda p, v, s=s: p + s * step * v, params, v))
        for s in (1, -1)
    )
    expected = jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)
    received = hessians.hessian_vector_product(objective, params, batch, v)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    for r, e in zip(*map(jax.tree.leaves, (received, expected)), strict=True):
        np.testing.assert_allclose(r, e, atol=1e-5 * scale)


def test_the_penalty_is_part_of_it_and_batches_are_averaged():
    params, batch, expected = problem()
    with_penalty = Objective(
        SQUARES.predict, SQUARES.loss, penalty=lambda p: 1.5 * jnp.sum(p["w"] ** 2)
    )
    halves = [{"x": batch["x"][:6]}, {"x": batch["x"][6:]}]
    product, size = hessians.flat_product(with_penalty, params, halves)
    received = np.stack([product(row) for row in jnp.eye(size)])
    np.testing.assert_allclose(received, expected + 3 * np.eye(5), rtol=1e-10)


def test_known_eigenvalues_are_found_however_they_lie():
    expected = [9.0, 4.0, 3.9, 1.0, 0.1, 1e-3]
    received = sharpness.top_eigenvalues(SQUARES, *spectrum(expected), KEY, count=6)
    np.testing.assert_allclose(received, expected, rtol=1e-8)


def test_a_multiple_eigenvalue_counts_once_and_ends_the_krylov_space():
    params, batch = spectrum([5.0, 5.0, 5.0, 2.0])
    received = sharpness.top_eigenvalues(SQUARES, params, batch, KEY, count=2)
    np.testing.assert_allclose(received, [5.0, 2.0], rtol=1e-10)
    with pytest.raises(ValueError, match="Received count=3; 2 steps of Lanczos"):
        sharpness.top_eigenvalues(SQUARES, params, batch, KEY, count=3)


def test_lanczos_agrees_with_matfree_step_by_step():
    params, batch, _ = problem(n=60, d=40, seed=2)
    product, size = hessians.flat_product(SQUARES, params, batch)
    start = jax.random.normal(KEY, (size,))
    received = hessians.lanczos(product, start, 12)
    expected = matfree.decomp.tridiag_sym(12)(product, start)
    np.testing.assert_allclose(received.diagonal, np.diag(expected[1]), rtol=1e-9)
    np.testing.assert_allclose(received.off, np.diag(expected[1], 1), rtol=1e-9)
    np.testing.assert_allclose(received.vectors, expected[0], atol=1e-9)


def test_the_trace_agrees_with_matfree_and_with_the_truth():
    params, batch, hessian = problem()
    value, error = sharpness.trace(SQUARES, params, batch, KEY, samples=400)
    assert abs(value - np.trace(hessian)) < 4 * error
    # The same signs through matfree's integrand: equal to rounding.
    product, size = hessians.flat_product(SQUARES, params, batch)
    integrand = matfree.stochtrace.monte_carlo_trace()
    keys = jax.random.split(KEY, 400)
    signs = jax.vmap(lambda k: jax.random.rademacher(k, (size,), jnp.float64))(keys)
    values = jax.jit(jax.vmap(lambda v: integrand(product, v)))(signs)
    np.testing.assert_allclose(value, np.mean(values), rtol=1e-12)


def test_the_trace_of_a_diagonal_hessian_is_exact():
    params, batch = {"w": jnp.ones(4)}, {"x": jnp.diag(jnp.arange(1.0, 5.0))}
    value, error = sharpness.trace(SQUARES, params, batch, KEY, samples=2)
    np.testing.assert_allclose([value, error], [30 / 4, 0], atol=1e-12)


def test_the_density_has_the_moments_of_the_spectrum():
    eigenvalues = np.array([9.0, 4.0, 3.9, 1.0, 0.1, 1e-3])
    density = sharpness.spectral_density(
        SQUARES, *spectrum(eigenvalues), KEY, starts=800
    )
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-10)
    for power in (1, 2, 3):
        expected = np.mean(eigenvalues**power)
        np.testing.assert_allclose(density.moment(power), expected, rtol=0.06)
    grid = np.linspace(-3, 12, 3001)
    mass = density.smooth(grid, 0.2)
    np.testing.assert_allclose(np.trapezoid(mass, grid), 1, rtol=1e-6)
    np.testing.assert_allclose(mass[grid > 6.5].sum() * 0.005, 1 / 6, rtol=0.1)
