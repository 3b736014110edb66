"""The implicit path against vmap over groups, which holds a copy of w for each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sam_jax
from sam_jax.core import implicit, trees
from sam_jax.core.gradient import SWAPS
from tests.core import networks
from tests.core.networks import PROBLEMS, Problem
from tests.core.oracle import assert_agrees, both, distance, oracle, ours, problem

every = pytest.mark.parametrize("name", PROBLEMS)


@every
def test_single_examples_with_an_l2_term(name):
    assert_agrees(*both(problem(name, True), m=1))


@pytest.mark.parametrize(
    ("name", "swap", "chunk"),
    [
        ("mlp", "derivative", 2),
        ("conv_net", "derivative", None),
        ("convolutions", None, None),
        ("encoder, tied", "direction", None),
        ("weight first", None, 2),
    ],
)
def test_groups_of_two_without_a_penalty(name, swap, chunk):
    assert_agrees(*both(problem(name), m=2, swap=swap, chunk=chunk))


def test_chunks_of_convolutions():
    p = problem("conv_net")
    assert_agrees(ours(p, chunk=4), oracle(p, m=1))


@pytest.mark.parametrize("swap", [None, *SWAPS])
@pytest.mark.parametrize(("m", "normalize"), [(1, True), (4, False)])
def test_every_swap(swap, m, normalize):
    p = problem("mlp", True)
    assert_agrees(*both(p, m=m, swap=swap, normalize=normalize))


@pytest.mark.parametrize("swap", [None, *SWAPS])
@pytest.mark.parametrize("normalize", [True, False])
def test_one_group_is_plain_sam(swap, normalize):
    """Written out: g = grad L(w), then the gradient at w + 0.3 g / |g|, or its factors
    J^T u from two points (Table 1)."""
    p = problem("mlp", True)

    @jax.jit
    def written_out(params, batch):
        g = jax.grad(p.objective.value)(params, batch)
        length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)))
        c = 0.3 / length if normalize else 0.3
        moved = jax.tree.map(lambda w, slope: w + c * slope, params, g)
        where_j, where_u = {
            None: (moved, moved),
            "direction": (moved, params),
            "derivative": (params, moved),
        }[swap]

        def linear(w):
            """<u, f(w)> + penalty(w), with u = d mean loss / d f held fixed."""
            outputs = p.objective.predict(where_u, batch)
            u = jax.grad(lambda f: p.objective.loss(f, batch).mean())(outputs)
            return jnp.vdot(u, p.objective.predict(w, batch)) + p.objective.penalty(w)

        return jax.grad(linear)(where_j), c * length

    received = ours(p, m=networks.N, normalize=normalize, swap=swap)
    gradient, length = written_out(p.params, p.batch)
    assert distance(received.gradient, gradient) < 1e-12
    np.testing.assert_allclose(received.ascent_norm, length, rtol=1e-12)


@pytest.mark.parametrize(("name", "m"), [("mlp", 1), ("conv_net", 4)])
def test_outputs_at_the_ascent_point_of_every_group(name, m):
    p = problem(name, True)
    received = jax.jit(
        functools.partial(implicit.perturbed_outputs, p.objective, rho=0.3, m=m)
    )(p.params, p.batch)

    @jax.jit
    def one_group(group):
        g = jax.grad(p.objective.value)(p.params, group)
        moved = trees.add_scaled(p.params, 0.3, trees.unit(g))
        return [p.objective.forward(w, group)[0] for w in (p.params, moved)]

    size = len(jax.tree.leaves(p.batch)[0])
    for start in range(0, size, m):
        group = jax.tree.map(lambda x, s=start: x[s : s + m], p.batch)
        for outputs, expected in zip(received, one_group(group), strict=True):
            np.testing.assert_allclose(
                outputs[start : start + m], expected, rtol=1e-10, atol=1e-12
            )


@pytest.mark.parametrize("name", ["mlp", "conv_net"])
def test_a_mask_limits_the_perturbation_and_its_norm(name):
    p = problem(name, True)
    leaves, structure = jax.tree.flatten(p.params)
    mask = jax.tree.unflatten(structure, [i % 3 > 0 for i in range(len(leaves))])
    received, expected = both(p, m=1, mask=mask)
    assert_agrees(received, expected)
    assert distance(received.gradient, ours(p, m=1).gradient) > 1e-3


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("mlp", "float32", 1e-4),
        pytest.param("resnet", "float32", 1e-4, marks=pytest.mark.heavy),
        ("encoder", "float32", 1e-4),
        ("mlp", "bfloat16", 2e-2),
        ("conv_net", "bfloat16", 2e-2),
        pytest.param("resnet", "bfloat16", 2e-2, marks=pytest.mark.heavy),
        pytest.param("encoder", "bfloat16", 2e-2, marks=pytest.mark.heavy),
    ],
)
def test_lower_precision_stays_near_float64(name, dtype, tolerance):
    """Where bfloat16 arithmetic itself is further away from float64, within twice the
    oracle's own distance."""
    p = problem(name)

    def cast(tree, old, new):
        return jax.tree.map(lambda x: x.astype(new) if x.dtype == old else x, tree)

    low, wide = (
        Problem(p.objective, *(cast(tree, old, new) for tree in (params, batch)))
        for params, batch, old, new in [
            (p.params, p.batch, jnp.float64, dtype),
            # rounded once, then computed in float64
            (*cast((p.params, p.batch), jnp.float64, dtype), dtype, jnp.float64),
        ]
    )
    received, same_dtype = both(low, m=1)
    assert all(g.dtype == dtype for g in jax.tree.leaves(received.gradient))
    expected = oracle(wide, m=1)
    limit = max(tolerance, 2 * distance(same_dtype.gradient, expected.gradient))
    assert distance(received.gradient, expected.gradient) < limit


@pytest.mark.parametrize("name", ["mlp", "convolutions", "encoder, tied"])
def test_norms_of_single_examples(name):
    p = problem(name, True)
    received = jax.jit(functools.partial(sam_jax.per_example_norms, p.objective))(
        p.params, p.batch
    )

    def one(example):
        group = jax.tree.map(lambda x: x[None], example)
        return trees.norm(jax.grad(p.objective.value)(p.params, group))

    np.testing.assert_allclose(received, jax.jit(jax.vmap(one))(p.batch), rtol=1e-10)


LAYERS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3
)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(layers=LAYERS, swap=st.sampled_from([None, *SWAPS]), m=st.sampled_from([1, 2]))
def test_random_networks(layers, swap, m):
    """Convolutions of drawn size, stride and width, then a dense layer."""
    shapes, channels = {}, 2
    for i, (size, width) in enumerate(layers):
        shapes[f"k{i}"] = (size, size, channels, width)
        channels = width

    def predict(p, b):
        h = b["x"]
        for i, (size, _) in enumerate(layers):
            h = jnp.tanh(
                jax.lax.conv_general_dilated(
                    h,
                    p[f"k{i}"],
                    (1 + i % 2, 1),
                    ((size // 2, size - 1), (1, size - 1)),
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            )
        return h.mean((1, 2)) @ p["w"]

    p = networks.bare(predict, **shapes, w=(channels, 3))
    p = p._replace(batch={**p.batch, "x": networks.inputs((5, 6, 2))})
    assert_agrees(*both(p, m=m, swap=swap))
