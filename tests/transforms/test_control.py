"""Where and when SAM acts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax
from tests.transforms.problems import BATCH, PARAMS, apply, assert_same, grad_fn

SGD = optax.sgd(0.1)
NORM_ONLY = {
    "dense": {"kernel": False, "bias": False},
    "norm": {"scale": True},
    "head": {"kernel": False},
}


def test_only_perturbs_the_mask_and_trains_everything():
    """Hazard 4: an unmasked leaf never moves by its raw gradient in the ascent."""
    g = grad_fn(PARAMS, BATCH)["norm"]["scale"]
    moved = PARAMS["norm"]["scale"] + 0.3 * g / jnp.linalg.norm(g)
    gradient = grad_fn({**PARAMS, "norm": {"scale": moved}}, BATCH)
    expected = optax.apply_updates(PARAMS, jax.tree.map(lambda x: -0.1 * x, gradient))
    for mask in (NORM_ONLY, sam_jax.norm_layers):
        tx = optax.chain(sam_jax.only(mask, sam_jax.sam(0.3)), SGD)
        assert_same(apply(tx), expected)
    assert not np.allclose(expected["head"]["kernel"], PARAMS["head"]["kernel"])


@pytest.mark.parametrize(
    "make",
    [
        sam_jax.sam,
        sam_jax.light_sam,
        functools.partial(sam_jax.sparse_sam, sparsity=0.4),
        functools.partial(sam_jax.eigen_sam, strength=0.0),
        functools.partial(sam_jax.esam, keep=1.0),
    ],
)
@pytest.mark.parametrize("other", [1.0, 1e6])
def test_leaves_outside_the_mask_count_in_no_norm(make, other):
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    batch = jnp.array([[3.0, 4.0, other]])
    objective = sam_jax.Objective(
        lambda p, x: x @ jnp.concatenate([p["a"], p["b"]]), lambda outputs, x: outputs
    )
    slope = jax.grad(objective.value)(params, batch)
    tx = sam_jax.only({"a": True, "b": False}, make(0.5))
    _, state = tx.update(
        slope, tx.init(params), params, objective=objective, batch=batch
    )
    np.testing.assert_allclose(state.ascent_norm, 0.5, rtol=1e-6)


def test_only_reaches_through_chains_and_other_controls():
    tx = sam_jax.only(NORM_ONLY, optax.chain(sam_jax.sum_max(0.3, m=2)))
    wrapped = sam_jax.periodic(sam_jax.active_between(tx, 0, 9), 1)
    assert_same(apply(wrapped), apply(tx))
    assert (
        np.abs(
            apply(tx)["norm"]["scale"]
            - apply(sam_jax.sum_max(0.3, m=2))["norm"]["scale"]
        ).max()
        > 1e-4
    )


def test_masks_of_nested_only_intersect():
    body = {
        "dense": {"kernel": True, "bias": True},
        "norm": {"scale": True},
        "head": {"kernel": False},
    }
    nested = sam_jax.only(body, sam_jax.only(NORM_ONLY, sam_jax.sam(0.3)))
    assert_same(apply(nested), apply(sam_jax.only(NORM_ONLY, sam_jax.sam(0.3))))


def test_norm_layers_are_found_by_name():
    params = {
        "BatchNorm_0": {"scale": 1, "bias": 1},
        "layers_1": {"bn1": {"scale": 1}, "gn": {"bias": 1}, "bn_2": {"scale": 1}},
        "final_norm": {"scale": 1},
        "Conv_0": {"kernel": 1},
        "begin": {"kernel": 1},
    }
    received = sam_jax.norm_layers(params)
    assert all(jax.tree.leaves({k: received[k] for k in list(params)[:3]}))
    assert not any(jax.tree.leaves([received["Conv_0"], received["begin"]]))


def test_kernels_are_the_leaves_of_two_axes_or_more():
    received = sam_jax.kernels({**PARAMS, "conv": jnp.zeros((3, 3, 1, 2))})
    expected = {"dense": {"kernel": True, "bias": False}, "norm": {"scale": False}}
    assert received == {**expected, "head": {"kernel": True}, "conv": True}


def by_hand(active, steps, alpha=0.0):
    """Parameters after steps of which `active` ones use SAM; LookSAM with alpha."""
    params, kept = PARAMS, None
    for t in range(steps):
        g, unravel = jax.flatten_util.ravel_pytree(grad_fn(params, BATCH))
        w, _ = jax.flatten_util.ravel_pytree(params)
        if t in active:
            new, _ = jax.flatten_util.ravel_pytree(
                grad_fn(unravel(w + 0.3 * g / jnp.linalg.norm(g)), BATCH)
            )
            kept = new - (new @ g) / (g @ g) * g
        else:
            new = g
            if alpha:
                new = g + alpha * jnp.linalg.norm(g) / jnp.linalg.norm(kept) * kept
        params = unravel(w - 0.1 * new)
    return params


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_periodic_acts_on_every_third_step(alpha):
    tx = optax.chain(sam_jax.periodic(sam_jax.sam(0.3), 3, reuse=alpha), SGD)
    assert_same(apply(tx, 5), by_hand({0, 3}, 5, alpha))


@pytest.mark.parametrize(
    ("start", "stop", "active"),
    [(0, None, {0, 1, 2, 3}), (2, None, {2, 3}), (0, 2, {0, 1}), (1, 3, {1, 2})],
)
def test_active_between_two_steps(start, stop, active):
    tx = optax.chain(sam_jax.active_between(sam_jax.sam(0.3), start, stop), SGD)
    assert_same(apply(tx, 4), by_hand(active, 4))


def test_the_schedule_of_an_inactive_transform_stands_still():
    def schedule(step):
        return jnp.where(step == 0, 0.3, 99.0)

    tx = optax.chain(sam_jax.active_between(sam_jax.sam(schedule), 2), SGD)
    assert_same(apply(tx, 3), by_hand({2}, 3))
