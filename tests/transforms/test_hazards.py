"""Where users of other implementations get hurt, one regression test each.

1 zero gradients; 2 accumulation around SAM; 3 a frozen rho schedule; 4 masks that leak;
5 a train state that drops grad_fn; 6 two batches by accident; 7 m left to the device
mapping; 8 replicated gradients summed by shard_map; 9 running statistics updated
twice; 10 mixed precision; 11 decay inside or outside the ascent; 12 clipping order;
13 resuming; 14 rho of another model; 15 all gradients kept alive; 16 SAM behind the
optimiser; 17 a pair in place of a gradient; 18 batches that are no rows of examples.
Those of training (9, 13, 14, and 7 on several devices) stand with the training loop
under the same names.
"""

import functools
import os
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import sam_jax
from sam_jax import Objective
from tests.transforms.problems import (
    BATCH,
    GRADS,
    OBJECTIVE,
    PARAMS,
    apply,
    assert_same,
    grad_fn,
    loss,
    predict,
)

SGD = optax.sgd(0.1)


@pytest.mark.parametrize(
    "tx",
    [
        sam_jax.sam(0.1),
        sam_jax.sum_max(0.1),
        sam_jax.asam(0.1),
        sam_jax.layerwise_sam(0.1),
        sam_jax.gsam(0.1),
        sam_jax.sam_direction(0.1),
        sam_jax.periodic(sam_jax.sam(0.1), 2, reuse=0.7),
    ],
)
def test_hazard_01_a_zero_gradient_gives_no_nan(tx):
    objective = Objective(lambda w, b: b["x"] @ w, lambda z, b: z**2)
    received = apply(tx, 2, params=jnp.zeros(4), objective=objective)
    np.testing.assert_array_equal(received, 0.0)


def test_hazard_02_accumulation_belongs_behind_sam():
    """With rho = 0, gradients 1 and 3 accumulate to their mean 2; the other order of
    nesting would hand SAM the gradient of both to ascend along, and the last microbatch
    alone to descend on."""
    target = {"x": jnp.array([[-1.0], [-3.0]])}

    def grad_fn(w, batch):
        return w - batch["x"].mean(0)

    w = jnp.zeros(1)

    def accumulated(tx):
        state, params = tx.init(w), w
        for i in range(2):
            batch = {"x": target["x"][i : i + 1]}
            updates, state = tx.update(
                grad_fn(params, batch), state, params, grad_fn=grad_fn, batch=batch
            )
            params = optax.apply_updates(params, updates)
        return -params

    def inside(rho):
        accumulate = optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation()
        return optax.chain(sam_jax.sam(rho), accumulate)

    np.testing.assert_allclose(accumulated(inside(0.0)), [2.0])
    # Gradients at w + rho: 1 + rho and 3 + rho, mean 2 + rho.
    np.testing.assert_allclose(accumulated(inside(0.5)), [2.5])
    outside = optax.MultiSteps(optax.chain(sam_jax.sam(1e-9), optax.sgd(1.0)), 2)
    with pytest.raises(ValueError, match=r"sam stands inside optax\.MultiSteps.*last"):
        accumulated(outside)
    accumulated(optax.MultiSteps(optax.chain(sam_jax.sam(0.0), optax.sgd(1.0)), 2))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.1), optax.sgd(0.1, momentum=0.9), optax.lion(0.1)]
)
def test_hazard_16_behind_an_optimiser_sam_would_climb(optimizer, jit):
    """Its gradient would be added to the parameters as it stands."""
    tx = optax.chain(optimizer, sam_jax.sam(0.1))
    update = functools.partial(tx.update, grad_fn=grad_fn)
    with pytest.raises(ValueError, match=r"sam stands behind an optimiser.*in front"):
        (jax.jit(update) if jit else update)(
            GRADS, tx.init(PARAMS), PARAMS, batch=BATCH
        )


@pytest.mark.parametrize(
    "link", [optax.clip(1e-3), optax.zero_nans(), optax.ema(0.9), optax.identity()]
)
def test_hazard_16_single_transformations_may_stand_in_front(link):
    """An average in front of SAM is a method, and no optimiser."""
    received = apply(optax.chain(link, sam_jax.sam(0.1), SGD))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(received))


@pytest.mark.parametrize(
    ("grad_fn", "advice"),
    [
        (jax.grad(lambda p, b: (OBJECTIVE.value(p, b), 1.0), has_aux=True), r"\[0\]"),
        (jax.value_and_grad(OBJECTIVE.value), r"\[1\] of it"),
    ],
)
@pytest.mark.parametrize("make", [sam_jax.sam, sam_jax.sum_max, sam_jax.gsam])
def test_hazard_17_a_grad_fn_that_returns_a_pair_gets_told(make, grad_fn, advice):
    """At the ascent point, while the gradient that comes in is right."""
    tx = make(0.1)
    with pytest.raises(ValueError, match=f"grad_fn must return a tree.*{advice}"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, grad_fn=grad_fn, batch=BATCH)


def test_hazard_17_so_does_a_pair_that_comes_down_the_chain():
    tx = sam_jax.sum_max(0.1)
    pair = (jnp.zeros(()), GRADS)
    with pytest.raises(ValueError, match=r"tree like params.*value, gradient"):
        tx.update(pair, tx.init(PARAMS), PARAMS, objective=OBJECTIVE, batch=BATCH)


GRAPH = {
    "nodes": jnp.linspace(-1.0, 1.0, 10).reshape(5, 2),
    "edges": jnp.array([[0, 1, 2], [1, 2, 4]]),
    "key": jax.random.key(0),
}


def graph_losses(w, batch):
    noise = jax.random.normal(batch["key"], (2,))
    sent = (batch["nodes"] @ w)[batch["edges"][0]]
    return (sent + noise @ w - batch["edges"][1]) ** 2


@pytest.mark.parametrize("make", [sam_jax.sam, sam_jax.asam, sam_jax.sam_direction])
def test_hazard_18_a_batch_without_a_common_leading_axis_is_seen_whole(make):
    """A graph and a key: against the same numbers closed over, with a batch of a row.

    Groups need an axis to be formed on, and say so.
    """
    w = jnp.array([0.5, -1.0])
    graph = Objective(lambda w, b: graph_losses(w, b), lambda losses, b: losses)
    closed = Objective(
        lambda w, b: graph_losses(w, GRAPH)[None], lambda z, b: z.mean(1)
    )
    received = apply(make(0.3), params=w, batch=GRAPH, objective=graph)
    expected = apply(make(0.3), params=w, batch=jnp.zeros(1), objective=closed)
    assert_same(received, expected)
    with pytest.raises(ValueError, match=r"to form groups.*closure of the loss"):
        apply(sam_jax.sum_max(0.3), params=w, batch=GRAPH, objective=graph)


def test_hazard_18_nor_does_a_bare_grad_fn_need_such_an_axis():
    w = jnp.array([0.5, -1.0])
    given = {
        "batch": GRAPH,
        "grad_fn": jax.grad(lambda w, b: graph_losses(w, b).mean()),
    }
    g = given["grad_fn"](w, GRAPH)
    tx = sam_jax.sam(0.3)
    received, _ = tx.update(g, tx.init(w), w, **given)
    expected = given["grad_fn"](w + 0.3 * g / jnp.linalg.norm(g), GRAPH)
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    grouped = sam_jax.sum_max(0.3)
    with pytest.raises(ValueError, match=r"to form groups.*closure of the loss"):
        grouped.update(g, grouped.init(w), w, **given)


def test_hazard_03_a_rho_schedule_advances():
    """On L = w^2 / 2 the gradient at the ascent point is w + rho_t."""
    tx = sam_jax.sam(lambda step: 0.1 * step)
    w, state, received = jnp.array([2.0]), tx.init(jnp.array([2.0])), []
    for _ in range(4):
        update, state = tx.update(
            w, state, w, grad_fn=lambda v, _: v, batch=jnp.zeros(1)
        )
        received.append(update[0])
    np.testing.assert_allclose(received, [2.0, 2.1, 2.2, 2.3], rtol=1e-7)


def test_hazard_04_masked_ascent_leaves_the_others_where_they_are():
    seen = []

    def record(params, batch):
        seen.append(params)
        return grad_fn(params, batch)

    mask = jax.tree.map(lambda _: False, PARAMS) | {"head": {"kernel": True}}
    tx = sam_jax.only(mask, sam_jax.sam(0.3))
    tx.update(
        grad_fn(PARAMS, BATCH), tx.init(PARAMS), PARAMS, grad_fn=record, batch=BATCH
    )
    ascent_point = seen[-1]
    np.testing.assert_array_equal(
        ascent_point["dense"]["kernel"], PARAMS["dense"]["kernel"]
    )
    assert (
        np.abs(ascent_point["head"]["kernel"] - PARAMS["head"]["kernel"]).max() > 0.01
    )


def test_hazard_05_a_train_state_that_drops_grad_fn_gets_told():
    tx = optax.chain(sam_jax.sam(0.1), SGD)
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    with pytest.raises(ValueError, match=r"TrainState\.apply_gradients drops these"):
        state.apply_gradients(grads=grad_fn(PARAMS, BATCH))


def test_hazard_06_ascent_and_descent_see_the_same_batch():
    batches = []

    def record(params, batch):
        batches.append(batch)
        return grad_fn(params, batch)

    for tx in (sam_jax.sam(0.1), sam_jax.asam(0.1), sam_jax.sam(0.1, ascent_steps=3)):
        tx.update(
            grad_fn(PARAMS, BATCH), tx.init(PARAMS), PARAMS, grad_fn=record, batch=BATCH
        )
    assert len(batches) >= 5
    assert all(b["x"] is BATCH["x"] for b in batches)


def test_hazard_07_m_is_never_left_to_the_mapping():
    """A batch of 8 as 2 x 4 under vmap with an axis name, as pmap would map it."""
    split = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), BATCH)
    whole = {m: apply(sam_jax.sum_max(0.3, m=m)) for m in (1, 2, 4, 8)}
    for m, expected in whole.items():
        tx = sam_jax.sum_max(0.3, m=m, axis_name="devices")
        received = jax.vmap(lambda b, tx=tx: apply(tx, batch=b), axis_name="devices")(
            split
        )
        for device in range(2):
            assert_same(jax.tree.map(lambda x, d=device: x[d], received), expected)
    assert np.abs(whole[4]["norm"]["scale"] - whole[8]["norm"]["scale"]).max() > 1e-4


@pytest.mark.parametrize(
    "make",
    [functools.partial(sam_jax.sam, ascent_steps=2), sam_jax.max_sum],
    ids=["sam, two steps", "max_sum"],
)
def test_hazard_07_every_ascent_gradient_is_that_of_the_global_batch(make):
    other = {"x": BATCH["x"], "y": jnp.roll(BATCH["y"], 1)}
    expected = apply(make(0.3), ascent_batch=other)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (BATCH, other))
    tx = make(0.3, axis_name="devices")
    received = jax.vmap(
        lambda b, o: apply(tx, batch=b, ascent_batch=o), axis_name="devices"
    )(*halves)
    for device in range(2):
        assert_same(jax.tree.map(lambda x, d=device: x[d], received), expected)


@pytest.mark.program
def test_hazard_08_shard_map_does_not_sum_what_the_axis_name_averages():
    """Under shard_map's default checks the gradient with respect to parameters that
    devices share is their sum. In a process with two devices."""
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    run = subprocess.run(
        [sys.executable, "-m", "tests.transforms.shard_map"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    distances = [float(line) for line in run.stdout.split()]
    assert len(distances) == 6
    assert max(distances) < 1e-14


def test_hazard_10_bf16_gets_float32_norms_and_stays_bf16():
    """Squares of 1e-3 summed 2^14 times stall in bfloat16."""
    w = jnp.full((128, 128), 1e-3, jnp.bfloat16)
    tx = sam_jax.sam(0.1)
    update, state = tx.update(w, tx.init(w), w, grad_fn=lambda v, _: v, batch=w)
    assert update.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.ascent_norm, 0.1, rtol=1e-5)


def test_hazard_11_decay_inside_or_outside_the_ascent_is_explicit():
    def half(p):
        return sum(0.5 * jnp.vdot(w, w) for w in jax.tree.leaves(p))

    inside = Objective(predict, loss, lambda p: 0.3 * half(p))
    with_penalty = apply(optax.chain(sam_jax.sam(0.5), SGD), objective=inside)
    chained = optax.chain(sam_jax.sam(0.5), optax.add_decayed_weights(0.3), SGD)
    with_decay = apply(chained)

    def gradient_at(delta, strength, where):
        point = jax.tree.map(jnp.add, PARAMS, delta)
        decayed = {"inside": point, "outside": PARAMS}[where]
        g = grad_fn(point, BATCH)
        return jax.tree.map(lambda a, w: a + strength * w, g, decayed)

    def delta(strength):
        g = gradient_at(jax.tree.map(jnp.zeros_like, PARAMS), strength, "inside")
        return jax.tree.map(lambda x: 0.5 * x / optax.tree.norm(g), g)

    def step(g):
        return jax.tree.map(lambda w, x: w - 0.1 * x, PARAMS, g)

    assert_same(with_penalty, step(gradient_at(delta(0.3), 0.3, "inside")))
    assert_same(with_decay, step(gradient_at(delta(0.0), 0.3, "outside")))


def test_hazard_12_clipping_before_changes_the_ascent_behind_the_descent():
    clip = optax.clip_by_global_norm(0.1)
    g = grad_fn(PARAMS, BATCH)
    norm = optax.tree.norm(g)
    assert norm > 0.1

    def at(factor):
        return grad_fn(jax.tree.map(lambda w, x: w + factor * x, PARAMS, g), BATCH)

    plain = sam_jax.sam(0.3, normalize=False)
    before = apply(optax.chain(clip, plain, optax.scale(-1.0)))
    expected = at(0.3 * 0.1 / norm)
    assert_same(before, jax.tree.map(jnp.subtract, PARAMS, expected))
    behind = apply(optax.chain(plain, clip, optax.scale(-1.0)))
    there = at(0.3)
    expected = jax.tree.map(lambda x: x * 0.1 / optax.tree.norm(there), there)
    assert_same(behind, jax.tree.map(jnp.subtract, PARAMS, expected))
    # A normalised ascent does not care for the length of what comes down the chain.
    assert_same(
        apply(optax.chain(clip, sam_jax.sam(0.3))), apply(sam_jax.sam(0.3)), rtol=1e-11
    )


def test_hazard_15_chunks_keep_one_accumulator():
    """Temporary memory of 64 examples one at a time stays near that of 8 at a time,
    far below all at once."""
    batch = jax.tree.map(lambda x: jnp.tile(x, (32, *[1] * (x.ndim - 1))), BATCH)
    params = {**PARAMS, "dense": {"kernel": jnp.ones((4, 512)), "bias": jnp.ones(512)}}
    params["norm"] = {"scale": jnp.ones(512)}
    params["head"] = {"kernel": jnp.ones((512, 3))}

    def memory(chunk):
        def gradient(p, b):
            return sam_jax.sharpness_aware_gradient(
                OBJECTIVE, p, b, rho=0.1, m=1, chunk=chunk
            ).gradient

        compiled = jax.jit(gradient).lower(params, batch).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert memory(1) < memory(None) / 10
