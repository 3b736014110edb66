"""Metrics, masks and radii against NumPy."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from sam_jax.core import trees
from tests.transforms.quadratics import check, expected, received, unit

RHO = 0.3


@pytest.mark.parametrize("eta", [0.5, 20.0])
def test_fisher_sam_has_the_ball_of_the_fisher_metric(eta):
    def rule(at, w, memory):
        g = at(w)
        inverse = np.diag(1 / (1 + eta * g**2))
        return at(w + RHO * inverse @ g / np.sqrt(g @ inverse @ g)), memory

    check(sam_jax.fisher_sam(RHO, fisher_weight=eta), rule)


def test_fisher_sam_takes_gradients_whose_squares_overflow():
    gradient = {"w": jnp.array([1e30, -1e25], jnp.float32)}
    seen = []

    def grad_fn(params, batch):
        seen.append(params["w"])
        return gradient

    params, tx = {"w": jnp.zeros(2, jnp.float32)}, sam_jax.fisher_sam(RHO)
    tx.update(gradient, tx.init(params), params, grad_fn=grad_fn, batch=jnp.zeros(1))
    # F^-1 g / sqrt(g F^-1 g) -> 1 / g / sqrt(2) for large g.
    np.testing.assert_allclose(
        seen[0], RHO / np.sqrt(2) * np.array([1e-30, -1e-25]), rtol=1e-5
    )


@pytest.mark.parametrize(("quantile", "count"), [(0.6, 2), (0.85, 1)])
def test_zsharp_keeps_the_entries_that_stand_out_in_their_leaf(quantile, count):
    # The quantile is that of a leaf, and vectors stay whole: so has the author's code.
    def rule(at, w, memory):
        g = at(w)
        z = abs(g[:4] - g[:4].mean()) / g[:4].std()
        kernel = np.where(z >= np.sort(z)[-count], g[:4], 0)
        return at(w + RHO * unit(np.concatenate([kernel, g[4:]]))), memory

    check(sam_jax.zsharp(RHO, quantile=quantile), rule)


def test_gcsam_centres_kernels_and_leaves_vectors():
    def rule(at, w, memory):
        g = at(w)
        kernel = g[:4].reshape(2, 2)
        centred = np.concatenate([np.ravel(kernel - kernel.mean(0)), g[4:]])
        return at(w + RHO * unit(centred)), memory

    check(sam_jax.gcsam(RHO), rule)


@pytest.mark.parametrize("budget", [0.3, 2.0])
def test_le_sam_has_the_radius_of_a_rise_of_the_loss(budget):
    radii = []

    def rule(at, w, memory):
        g = at(w)
        radii.append(min(budget / np.linalg.norm(g), RHO))
        return at(w + radii[-1] * unit(g)), memory

    check(sam_jax.le_sam(RHO, budget=budget), rule)
    assert min(radii) < RHO


def test_light_sam_divides_by_the_gradients_of_all_steps():
    def rule(at, w, total):
        g = at(w)
        total = (total or 0.0) + g @ g
        return at(w + RHO * g / np.sqrt(total)), total

    check(sam_jax.light_sam(RHO), rule)


@pytest.mark.parametrize(("sparsity", "count"), [(0.6, 3), (0.85, 1)])
def test_sparse_sam_perturbs_where_squares_are_largest(sparsity, count):
    def rule(at, w, mean):
        g = at(w)
        mean = g**2 if mean is None else 0.8 * mean + 0.2 * g**2
        kept = mean >= np.sort(mean)[-count]
        # What is left out makes the perturbation shorter: so has the authors' code.
        return at(w + RHO * np.where(kept, unit(g), 0)), mean

    check(sam_jax.sparse_sam(RHO, sparsity=sparsity, decay=0.8), rule)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_part_is_that_of_a_sort(dtype):
    draws = np.random.default_rng(1).lognormal(sigma=9, size=501).astype(dtype)
    tree = {"a": jnp.asarray(draws[:301].reshape(7, 43)), "b": jnp.asarray(draws[301:])}
    for part in (0.002, 0.05, 0.5, 1.0):
        least = np.sort(draws)[-max(1, round(part * 501))]
        assert trees.least_of_largest(tree, part) == least
        of_each = trees.least_of_largest(tree, part, each=True)
        for name, leaf in tree.items():
            count = max(1, round(part * leaf.size))
            assert of_each[name] == np.sort(np.ravel(leaf))[-count]


def test_limits_are_sam():
    def sam(at, w, memory):
        return at(w + RHO * unit(at(w))), memory

    for tx in (
        sam_jax.fisher_sam(RHO, fisher_weight=0.0),
        sam_jax.zsharp(RHO, quantile=0.0),
        sam_jax.le_sam(RHO, budget=1e9),
        sam_jax.sparse_sam(RHO, sparsity=0.0),
    ):
        np.testing.assert_allclose(received(tx), expected(sam), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(sam_jax.fisher_sam, fisher_weight=-1.0), "weight=-1.0"),
        (functools.partial(sam_jax.zsharp, quantile=1.0), r"quantile=1.0.*\[0, 1\)"),
        (functools.partial(sam_jax.le_sam, budget=-1.0), "budget=-1.0.*>= 0"),
        (functools.partial(sam_jax.sparse_sam, sparsity=1.0), "sparsity=1.0"),
        (functools.partial(sam_jax.light_sam, m=2), "m=2.*leave m out"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(0.1)
