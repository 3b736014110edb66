"""ASAM, layer-wise, random and gap-guided steps against NumPy on a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax

A = np.diag([1.0, 4.0, 0.5])
W = {"a": jnp.array([2.0, -1.0]), "b": jnp.array([3.0])}
FLAT = np.array([2.0, -1.0, 3.0])
G = A @ FLAT


def split(v):
    return {"a": v[:2], "b": v[2:]}


def grad_fn(params, batch):
    del batch
    return split(jnp.asarray(A) @ jnp.concatenate([params["a"], params["b"]]))


def replaced(tx, steps=1):
    """The gradients that the transform puts in place of grad at W, step by step."""
    state, received = tx.init(W), []
    for _ in range(steps):
        updates, state = tx.update(
            grad_fn(W, None), state, W, grad_fn=grad_fn, batch=jnp.zeros(1)
        )
        received.append(np.concatenate([updates["a"], updates["b"]]))
    return received if steps > 1 else received[0]


@pytest.mark.parametrize("eta", [0.0, 0.01, 1.0])
def test_asam(eta):
    t = np.abs(FLAT) + eta
    delta = 0.3 * t**2 * G / np.linalg.norm(t * G)
    np.testing.assert_allclose(
        replaced(sam_jax.asam(0.3, eta)), A @ (FLAT + delta), rtol=1e-13
    )


def test_layerwise():
    delta = np.concatenate(
        [
            0.3 * np.linalg.norm(FLAT[s]) * G[s] / np.linalg.norm(G[s])
            for s in (slice(0, 2), slice(2, 3))
        ]
    )
    np.testing.assert_allclose(
        replaced(sam_jax.layerwise_sam(0.3)), A @ (FLAT + delta), rtol=1e-13
    )


def softmax_gradients(w, x, y):
    """Those of the mean cross-entropy of tanh(x W1 + b1) W2 + b2, by hand."""
    hidden = np.tanh(x @ w["W1"] + w["b1"])
    logits = hidden @ w["W2"] + w["b2"]
    slope = np.exp(logits - logits.max(1, keepdims=True))
    slope /= slope.sum(1, keepdims=True)
    slope[np.arange(len(y)), y] -= 1
    slope /= len(y)
    back = slope @ w["W2"].T * (1 - hidden**2)
    found = {"W1": x.T @ back, "W2": hidden.T @ slope}
    return found | {"b1": back.sum(0), "b2": slope.sum(0)}


def authors_awp(w, x, y, steps, *, gamma, rate, momentum):
    """AWP as its authors' code takes it: a proxy network makes a step uphill; the
    difference of its weights of two axes or more, as long as these times gamma, is
    added before the step of the optimiser and taken away after it.
    """
    w, speed = dict(w), dict.fromkeys(w, 0.0)
    for _ in range(steps):
        uphill = softmax_gradients(w, x, y)
        proxy = {name: w[name] + 0.01 * uphill[name] for name in w}
        moved = {}
        for name in ("W1", "W2"):
            difference = proxy[name] - w[name]
            length = np.linalg.norm(w[name]) / (np.linalg.norm(difference) + 1e-20)
            moved[name] = gamma * length * difference
            w[name] = w[name] + moved[name]
        there = softmax_gradients(w, x, y)
        for name in w:
            speed[name] = momentum * speed[name] + there[name]
            w[name] = w[name] - rate * speed[name] - moved.get(name, 0)
    return w


def test_layerwise_sam_of_kernels_is_awp_by_the_authors_code():
    rng = np.random.default_rng(0)
    shapes = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)}
    w = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    x, y = rng.standard_normal((8, 3)), rng.integers(2, size=8)

    def loss(params, batch):
        hidden = jnp.tanh(batch["x"] @ params["W1"] + params["b1"])
        logits = hidden @ params["W2"] + params["b2"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        return losses.mean()

    def trained(ascent):
        params, batch = jax.tree.map(jnp.asarray, w), {"x": x, "y": y}
        tx, gradient = optax.chain(ascent, optax.sgd(0.3, 0.9)), jax.grad(loss)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(
                gradient(params, batch), state, params, grad_fn=gradient, batch=batch
            )
            params = optax.apply_updates(params, updates)
        return params

    expected = authors_awp(w, x, y, 3, gamma=0.2, rate=0.3, momentum=0.9)
    received = trained(sam_jax.only(sam_jax.kernels, sam_jax.layerwise_sam(0.2)))
    every_leaf = trained(sam_jax.layerwise_sam(0.2))
    for name in w:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-10)
        assert np.abs(every_leaf[name] - expected[name]).max() > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.4, 2.0])
def test_gsam(alpha):
    perturbed = A @ (FLAT + 0.3 * G / np.linalg.norm(G))
    unit = perturbed / np.linalg.norm(perturbed)
    expected = perturbed - alpha * (G - (G @ unit) * unit)
    np.testing.assert_allclose(replaced(sam_jax.gsam(0.3, alpha)), expected, rtol=1e-13)


@pytest.mark.parametrize("normalize", [True, False])
def test_random_perturbations_differ_by_step_and_seed_only(normalize):
    def directions(seed, steps=3):
        tx = sam_jax.random_perturbation(0.3, seed=seed, normalize=normalize)
        return [np.linalg.solve(A, g) - FLAT for g in replaced(tx, steps)]

    first, second, other = directions(0), directions(0), directions(1)
    np.testing.assert_array_equal(first, second)
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(first, axis=1), 0.3, rtol=1e-12)
    everything = np.concatenate([first, other])
    assert len(np.unique(everything.round(9), axis=0)) == 6


def test_step_t_draws_from_the_key_of_the_seed_folded_with_t():
    received = replaced(sam_jax.random_perturbation(0.3, seed=5), 3)
    for t, gradient in enumerate(received):
        key = jax.random.fold_in(jax.random.key(5), t)
        noise = np.asarray(jax.random.normal(key, 3))
        delta = 0.3 * noise / np.linalg.norm(noise)
        np.testing.assert_allclose(gradient, A @ (FLAT + delta), rtol=1e-12)


def test_a_zero_leaf_stays_under_layerwise_scaling():
    w = {"a": jnp.zeros(2), "b": jnp.array([3.0])}
    tx = sam_jax.layerwise_sam(0.5)
    seen = []

    def record(params, batch):
        seen.append(params)
        return jax.tree.map(jnp.ones_like, params)

    tx.update(record(w, None), tx.init(w), w, grad_fn=record, batch=jnp.zeros(1))
    np.testing.assert_array_equal(seen[1]["a"], 0)
    np.testing.assert_allclose(seen[1]["b"], 4.5)
