"""The core gradient against NumPy on a network small enough to differentiate by hand,
and against plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import ascent, trees
from sam_jax.core import gradient as core
from sam_jax.core.gradient import SWAPS, loss_gradient, surrogate_gap
from sam_jax.core.objective import Objective

# One program for each case; without jit one for each operation of it.
sharpness_aware_gradient = jax.jit(
    core.sharpness_aware_gradient,
    static_argnums=0,
    static_argnames=("m", "swap", "rule", "chunk", "ascent_steps"),
)

B, D, C = 6, 4, 3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((B, D))
Y = RNG.integers(0, C, B)
BATCH = (jnp.asarray(X), jnp.asarray(Y))
PARAMS = {
    "v": jnp.asarray(RNG.standard_normal((D, 5))),
    "w": jnp.asarray(RNG.standard_normal((5, C))),
}
L2 = 0.03


def predict(params, batch):
    return jnp.tanh(batch[0] @ params["v"]) @ params["w"]


def loss(outputs, batch):
    return jax.nn.logsumexp(outputs, 1) - outputs[jnp.arange(len(outputs)), batch[1]]


def penalty(params):
    return 0.5 * L2 * sum(jnp.vdot(p, p) for p in params.values())


OBJECTIVE = Objective(predict, loss, penalty)


def np_derivative(p, x, y):
    """d mean loss / d logits."""
    z = np.tanh(x @ p["v"]) @ p["w"]
    s = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return (s - np.eye(C)[y]) / len(y)


def np_pull(p, x, u):
    """Pull-back of logit cotangents u to both layers, plus the penalty's gradient."""
    h = np.tanh(x @ p["v"])
    return {
        "v": x.T @ ((u @ p["w"].T) * (1 - h**2)) + L2 * p["v"],
        "w": h.T @ u + L2 * p["w"],
    }


def np_sam(swap, m, rho, normalize):
    p = {k: np.asarray(v) for k, v in PARAMS.items()}
    total = dict.fromkeys(p, 0.0)
    for start in range(0, B, m):
        x, y = X[start : start + m], Y[start : start + m]
        u = np_derivative(p, x, y)
        g = np_pull(p, x, u)
        c = rho / np.sqrt(sum((v**2).sum() for v in g.values())) if normalize else rho
        q = {k: p[k] + c * g[k] for k in p}
        point, slope = {
            None: (q, np_derivative(q, x, y)),
            "direction": (q, u),
            "derivative": (p, np_derivative(q, x, y)),
        }[swap]
        result = np_pull(point, x, slope)
        total = {k: total[k] + result[k] * m / B for k in p}
    return total


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("m", [1, 2, 6])
@pytest.mark.parametrize("swap", [None, *SWAPS])
def test_every_swap_and_group_size_against_numpy(swap, m, normalize):
    received = sharpness_aware_gradient(
        OBJECTIVE,
        PARAMS,
        BATCH,
        rho=0.7,
        m=m,
        swap=swap,
        rule=ascent.normalized if normalize else ascent.unnormalized,
    )
    expected = np_sam(swap, m, 0.7, normalize)
    for name in PARAMS:
        np.testing.assert_allclose(
            received.gradient[name], expected[name], rtol=1e-12, atol=1e-14
        )
    np.testing.assert_allclose(received.losses, loss(predict(PARAMS, BATCH), BATCH))
    np.testing.assert_allclose(received.outputs, predict(PARAMS, BATCH), rtol=1e-13)
    if normalize:
        np.testing.assert_allclose(received.ascent_norm, 0.7, rtol=1e-14)


@pytest.mark.parametrize("swap", [None, *SWAPS])
@pytest.mark.parametrize("m", [None, 2])
def test_radius_zero_is_the_plain_gradient(swap, m):
    received = sharpness_aware_gradient(
        OBJECTIVE, PARAMS, BATCH, rho=0.0, m=m, swap=swap
    )
    expected = loss_gradient(OBJECTIVE, PARAMS, BATCH)
    for name in PARAMS:
        for gradient in (received.gradient, received.clean):
            np.testing.assert_allclose(
                gradient[name], expected.gradient[name], rtol=1e-13, atol=1e-15
            )


@pytest.mark.parametrize("swap", [None, *SWAPS])
def test_without_groups_the_whole_batch_is_one_as_in_plain_sam(swap):
    received = sharpness_aware_gradient(OBJECTIVE, PARAMS, BATCH, rho=0.3, swap=swap)
    expected = np_sam(swap, B, 0.3, True)
    at_w = {k: np.asarray(v) for k, v in PARAMS.items()}
    clean = np_pull(at_w, X, np_derivative(at_w, X, Y))
    for name in PARAMS:
        np.testing.assert_allclose(received.gradient[name], expected[name], rtol=1e-12)
        np.testing.assert_allclose(received.clean[name], clean[name], rtol=1e-12)
    np.testing.assert_allclose(received.ascent_norm, 0.3, rtol=1e-14)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_give_what_vmap_gives(chunk):
    kwargs = {"rho": 0.3, "m": 1}
    at_once = sharpness_aware_gradient(OBJECTIVE, PARAMS, BATCH, **kwargs)
    chunked = sharpness_aware_gradient(OBJECTIVE, PARAMS, BATCH, chunk=chunk, **kwargs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15),
        at_once,
        chunked,
    )


def test_a_bare_grad_fn_gives_what_its_objective_gives():
    grad_fn = jax.grad(OBJECTIVE.value)
    for m in (None, 2):
        kwargs = {"rho": 0.3, "m": m, "ascent_steps": 2}
        opaque = sharpness_aware_gradient(grad_fn, PARAMS, BATCH, **kwargs)
        known = sharpness_aware_gradient(OBJECTIVE, PARAMS, BATCH, **kwargs)
        for name in PARAMS:
            np.testing.assert_allclose(
                opaque.gradient[name], known.gradient[name], rtol=1e-13, atol=1e-15
            )
        assert opaque.losses is None
        assert opaque.outputs is None


def test_one_output_swaps_are_those_of_the_binary_loss():
    """The paper's own setting: one logit z, loss log(1 + exp(-y z)), y = +-1."""
    signs = jnp.asarray(2.0 * (Y > 0) - 1)
    v = PARAMS["v"][:, 0]

    def logit(v, x):
        return jnp.tanh(x @ v)

    objective = Objective(
        lambda v, b: jax.vmap(logit, (None, 0))(v, b[0]),
        lambda z, b: jnp.log1p(jnp.exp(-b[1] * z)),
    )
    expected = {"direction": 0.0, "derivative": 0.0}
    slope = jax.grad(lambda z, y: jnp.log1p(jnp.exp(-y * z)))
    for x, y in zip(BATCH[0], signs, strict=True):
        g = slope(logit(v, x), y) * jax.grad(logit)(v, x)
        q = v + 0.4 * g / jnp.linalg.norm(g)
        expected["direction"] += slope(logit(v, x), y) * jax.grad(logit)(q, x) / B
        expected["derivative"] += slope(logit(q, x), y) * jax.grad(logit)(v, x) / B
    for swap, gradient in expected.items():
        received = sharpness_aware_gradient(
            objective, v, (BATCH[0], signs), rho=0.4, m=1, swap=swap
        )
        np.testing.assert_allclose(received.gradient, gradient, rtol=1e-12)


@pytest.mark.parametrize(
    ("swap", "products"), [(None, 10), ("direction", 9), ("derivative", 10)]
)
def test_matrix_products_of_sam_and_of_its_swaps(swap, products):
    """A forward pass takes x v and h w, a pull-back h^T u, u w^T and x^T (...). SAM
    takes both twice, and so do the swaps; "direction" does not read the outputs h w at
    the ascent point."""
    gradient = functools.partial(
        sharpness_aware_gradient, Objective(predict, loss), rho=0.3, swap=swap
    )
    program = jax.jit(lambda p, b: gradient(p, b).gradient).lower(PARAMS, BATCH)
    assert program.compile().as_text().count(" dot(") == products


def test_aux_comes_from_the_clean_pass_averaged_over_groups():
    objective = Objective(
        lambda p, b: (predict(p, b), {"mean": (b[0] @ p["v"]).mean(0), "n": len(b[0])}),
        loss,
        has_aux=True,
    )
    received = sharpness_aware_gradient(objective, PARAMS, BATCH, rho=5.0, m=2)
    expected = np.mean(X @ np.asarray(PARAMS["v"]), 0)
    np.testing.assert_allclose(received.aux["mean"], expected, rtol=1e-13)
    assert received.aux["n"] == 2


@pytest.mark.parametrize("m", [None, 1])
def test_zero_gradients_give_zero_perturbations(m):
    """At w = 0 a linear least-squares fit of zeros has no slope, for any example."""
    objective = Objective(lambda w, b: b[0] @ w, lambda z, b: z**2)
    received = sharpness_aware_gradient(objective, jnp.zeros(D), BATCH, rho=0.3, m=m)
    np.testing.assert_array_equal(received.gradient, 0)
    assert received.ascent_norm == 0


def test_parameters_that_nothing_uses_keep_a_zero_gradient():
    params = {**PARAMS, "unused": jnp.ones(2), "empty": {}, "step": jnp.array(3)}
    objective = Objective(predict, loss)
    received = sharpness_aware_gradient(objective, params, BATCH, rho=0.3, m=2)
    np.testing.assert_array_equal(received.gradient["unused"], 0)
    assert received.gradient["empty"] == {}
    assert received.gradient["step"] == 0
    assert jnp.issubdtype(received.gradient["step"].dtype, jnp.integer)


def test_bf16_parameters_keep_their_dtype_and_come_near_float32():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    batch = (BATCH[0].astype(jnp.bfloat16), BATCH[1])
    half = sharpness_aware_gradient(OBJECTIVE, params, batch, rho=0.3, m=2)
    full = sharpness_aware_gradient(
        OBJECTIVE, wide, (batch[0].astype(jnp.float32), batch[1]), rho=0.3, m=2
    )
    difference = jax.tree.map(
        lambda a, b: a.astype(jnp.float32) - b, half.gradient, full.gradient
    )
    assert all(g.dtype == jnp.bfloat16 for g in jax.tree.leaves(half.gradient))
    assert trees.norm(difference) < 0.05 * trees.norm(full.gradient)
    np.testing.assert_allclose(half.ascent_norm, 0.3, rtol=1e-5)


def test_a_rho_that_changes_does_not_compile_again():
    @jax.jit
    def gradient(params, batch, rho):
        return sharpness_aware_gradient(OBJECTIVE, params, batch, rho=rho, m=2).gradient

    for rho in (0.1, 0.2, 0.5):
        gradient(PARAMS, BATCH, jnp.asarray(rho))
    assert gradient._cache_size() == 1


def test_the_surrogate_gap_removes_only_the_orthogonal_part():
    clean, perturbed = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([2.0, 0.0])}
    np.testing.assert_allclose(
        surrogate_gap(clean, perturbed, 0.5)["a"], [2.0, -1.0], rtol=1e-15
    )
    parallel = {"a": jnp.array([-3.0, 0.0])}
    np.testing.assert_allclose(
        surrogate_gap(parallel, perturbed, 0.5)["a"], [2.0, 0.0], atol=1e-15
    )


def test_misuse_names_the_fix():
    grad_fn = jax.grad(OBJECTIVE.value)
    with pytest.raises(ValueError, match=r"swap='both'.*\('direction', 'derivative'\)"):
        sharpness_aware_gradient(OBJECTIVE, PARAMS, BATCH, rho=0.1, swap="both")
    with pytest.raises(ValueError, match=r"swap='direction'.*a bare grad_fn"):
        sharpness_aware_gradient(grad_fn, PARAMS, BATCH, rho=0.1, swap="direction")
    with pytest.raises(ValueError, match="belong to a single perturbation"):
        sharpness_aware_gradient(
            OBJECTIVE, PARAMS, BATCH, rho=0.1, m=2, ascent_batch=BATCH
        )
