"""Clipping and noise scale against gradients of all examples by vmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax
from tests.core import networks
from tests.core.oracle import distance, problem

N = networks.N


def of_groups(p, params, m):
    """The gradient of every group's objective, [N / m, ...] on every leaf."""
    pieces = jax.tree.map(lambda x: x.reshape(N // m, m, *x.shape[1:]), p.batch)
    return jax.vmap(jax.grad(p.objective.value), (None, 0))(params, pieces)


def by_hand(gradients, clip):
    flat = [g.reshape(len(g), -1) for g in jax.tree.leaves(gradients)]
    norms = np.sqrt(sum((g**2).sum(1) for g in flat))
    weights = np.minimum(1, clip / norms)
    mean = jax.tree.map(lambda g: np.tensordot(weights, g, 1) / len(weights), gradients)
    return norms, mean


@functools.cache
def compared(name, m):
    """Gradients by vmap, and what we have, clipped to about the median norm."""
    p = problem(name, penalised=True)
    gradients = jax.jit(lambda params: of_groups(p, params, m))(p.params)
    norms, _ = by_hand(gradients, 1.0)
    clip = float(np.median(norms) * 1.001)

    @jax.jit
    def ours(params, batch):
        given = (p.objective, params, batch)
        clipped = sam_jax.clipped_gradient(*given, clip, m=m, has_aux=True)
        return clipped, sam_jax.gradient_noise_scale(*given, m=m)

    return p, gradients, clip, ours(p.params, p.batch)


CASES = [("mlp", 1), ("conv_net", 1), ("encoder, tied", 1), ("weight first", 2)]
every = pytest.mark.parametrize(("name", "m"), CASES)


@every
def test_clipped_gradients_are_those_of_vmap(name, m):
    p, gradients, clip, (((losses, norms), received), _) = compared(name, m)
    expected_norms, expected = by_hand(gradients, clip)
    assert distance(received, expected) < 1e-10
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-10)
    outputs, _ = p.objective.forward(p.params, p.batch)
    np.testing.assert_allclose(losses, p.objective.losses(outputs, p.batch), rtol=1e-10)
    assert 0 < (expected_norms > clip).sum() < len(norms)  # some are clipped


@every
def test_the_noise_scale_is_that_of_the_sample_covariance(name, m):
    """tr Sigma from the unbiased sample variance of every entry, and |G|^2 from
    E|g|^2 = |G|^2 + tr Sigma / N."""
    _, gradients, _, (_, received) = compared(name, m)
    noise = jax.tree.map(lambda g: m * g.var(0, ddof=1).sum(), gradients)
    signal = jax.tree.map(
        lambda g, tr: (g.mean(0) ** 2).sum() - tr / N, gradients, noise
    )
    size = max(jax.tree.leaves(noise))
    for ours, theirs in ((received.noise, noise), (received.signal, signal)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * size),
            ours,
            theirs,
        )
    total = sum(jax.tree.leaves(noise)) / sum(jax.tree.leaves(signal))
    np.testing.assert_allclose(received.scale, total, rtol=1e-9)


def test_layers_of_a_noise_scale():
    _, _, _, (_, received) = compared("mlp", 1)
    assert list(received.by_layer()) == ["dense1", "dense2", "head"]
    noise = sum(jax.tree.leaves(received.noise["head"]))
    signal = sum(jax.tree.leaves(received.signal["head"]))
    np.testing.assert_allclose(received.by_layer()["head"], noise / signal, rtol=1e-12)


LINE = sam_jax.Objective(lambda w, b: b["x"] @ w, lambda z, b: z**2 / 2)


def line(clip, x, **options):
    """L_i = <x_i, w>^2 / 2 at w = (1, 1): g_i = <x_i, w> x_i."""
    gradient = functools.partial(sam_jax.clipped_gradient, LINE, **options)
    return jax.jit(gradient)(jnp.ones(2), {"x": jnp.asarray(x)}, clip)


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_closed_form_with_a_zero_gradient_among_them(chunk):
    x = [[3.0, 0.0], [1.0, -1.0], [0.1, 0.0], [0.0, 2.0]]
    received = line(1.0, x, chunk=chunk)
    np.testing.assert_allclose(received, [(1 + 0.01) / 4, 1 / 4], rtol=1e-14)
    received = line(1e6, x, chunk=chunk)
    np.testing.assert_allclose(received, [(9 + 0.01) / 4, 4 / 4], rtol=1e-14)


def test_gradients_that_are_not_finite_are_not_clipped_away():
    assert np.isnan(line(1.0, [[np.inf, 0.0], [1.0, 0.0]])).any()


def test_sizes_that_overflow_when_squared():
    x = np.array([[1e90, 0.0], [0.0, 1e-90]])
    np.testing.assert_allclose(line(1e150, x), [5e149, 5e-181], rtol=1e-12)


def test_optax_adds_the_noise_of_a_private_step():
    """add_noise has the variance eta; 4,000 steps on a gradient that does not move."""
    std = 0.5 * 1.0 / 2
    tx = optax.chain(optax.add_noise(std**2, 0.0, jax.random.key(0)), optax.sgd(1.0))
    gradient = line(1.0, [[3.0, 0.0], [0.0, 2.0]])

    def step(state, _):
        update, state = tx.update(gradient, state)
        return state, update

    _, updates = jax.lax.scan(step, tx.init(jnp.ones(2)), length=4000)
    np.testing.assert_allclose(updates.mean(0), -gradient, atol=5 * std / 4000**0.5)
    np.testing.assert_allclose(updates.std(0), std, rtol=0.05)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), np.ones(2)])
def test_a_clip_that_is_no_norm_is_refused(clip):
    with pytest.raises(ValueError, match=r"received clip=.*number > 0"):
        sam_jax.clipped_gradient(LINE, jnp.ones(2), {"x": jnp.ones((2, 2))}, clip)


def test_a_single_group_has_no_noise_scale():
    with pytest.raises(ValueError, match=r"m=2 for a batch of 2 .*two groups"):
        sam_jax.gradient_noise_scale(LINE, jnp.ones(2), {"x": jnp.ones((2, 2))}, m=2)
