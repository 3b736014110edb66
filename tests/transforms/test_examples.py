"""Selected examples, rare classes and old outputs against NumPy: softmax regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax

RHO, RATE, STEPS = 0.3, 0.5, 3
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(12, 4))
Y = RANDOM.integers(0, 3, 12)
START = RANDOM.normal(size=(4, 3))
BATCH = {"x": jnp.asarray(X), "labels": jnp.asarray(Y)}
COUNTS = (7, 3, 2)
OLD = RANDOM.normal(size=(12, 3))


def loss(outputs, batch):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["labels"])


OBJECTIVE = sam_jax.Objective(lambda w, batch: batch["x"] @ w, loss)


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def losses(w):
    return -np.log(softmax(X @ w)[np.arange(12), Y])


def slope(w, weights=1.0):
    """Of the mean of weights * losses."""
    p = softmax(X @ w)
    p[np.arange(12), Y] -= 1
    return X.T @ (np.broadcast_to(weights, 12)[:, None] * p) / 12


def unit(v):
    return v / np.linalg.norm(v)


def check(tx, rule):
    """Asserts that a transform takes the steps of a rule (t, w, memory) in NumPy."""
    chain = optax.chain(tx, optax.sgd(RATE))

    @jax.jit
    def step(w, state):
        grads = jax.grad(OBJECTIVE.value)(w, BATCH)
        updates, state = chain.update(
            grads, state, w, objective=OBJECTIVE, batch=BATCH, past_outputs=OLD
        )
        return optax.apply_updates(w, updates), state

    received, memory = jnp.asarray(START), None
    expected, state = START, chain.init(received)
    for t in range(STEPS):
        received, state = step(received, state)
        gradient, memory = rule(t, expected, memory)
        assert np.abs(gradient - slope(expected)).max() > 1e-4 or t == 0
        expected = expected - RATE * gradient
        np.testing.assert_allclose(received, expected, rtol=1e-9)


@pytest.mark.parametrize(("keep", "select"), [(0.6, 0.5), (1.0, 0.25), (0.5, 1.0)])
def test_esam_perturbs_random_entries_and_descends_on_the_examples_that_rise(
    keep, select
):
    def rule(t, w, memory):
        key = jax.random.fold_in(jax.random.key(7), t)
        kept = np.asarray(jax.random.uniform(key, (12,))).reshape(4, 3) < keep
        there = w + RHO / keep * kept * unit(slope(w))
        rises = losses(there) - losses(w)
        count = round(select * 12)
        chosen = rises >= np.sort(rises)[-count]
        return slope(there, chosen * 12 / count), memory

    check(sam_jax.esam(RHO, keep=keep, select=select, seed=7), rule)


@pytest.mark.parametrize("tail", [(2,), (0, 1)])
def test_imb_sam_ascends_on_rare_classes_alone(tail):
    rare = np.isin(Y, tail)

    def rule(t, w, memory):
        there = w + RHO * unit(slope(w, rare))
        return slope(w, ~rare) + slope(there, rare), memory

    check(sam_jax.imb_sam(RHO, tail=tail), rule)


@pytest.mark.parametrize(("focus", "strength"), [(2.0, 0.8), (0.5, 1.5)])
def test_focal_sam_weighs_the_rise_by_class(focus, strength):
    weights = ((1 - np.array(COUNTS) / sum(COUNTS)) ** focus)[Y]

    def rule(t, w, memory):
        there = w + RHO * unit(slope(w, weights))
        rise = slope(there, weights) - slope(w, weights)
        return slope(w) + strength * rise, memory

    check(sam_jax.focal_sam(RHO, counts=COUNTS, focus=focus, strength=strength), rule)


def divergence_slope(w, old, temperature):
    """Of T^2 mean KL(softmax(old / T) | softmax(x w / T)) by w; T^2 is the authors'."""
    gap = softmax(X @ w / temperature) - softmax(old / temperature)
    return temperature * X.T @ gap / 12


@pytest.mark.parametrize(("temperature", "decay"), [(1.0, 0.5), (5.0, 0.9)])
def test_mesa_is_drawn_to_the_outputs_of_the_averaged_weights(temperature, decay):
    def rule(t, w, mean):
        mean = w if mean is None else decay * mean + (1 - decay) * w
        pull = divergence_slope(w, X @ mean, temperature)
        return slope(w) + 3.0 * pull, mean

    check(sam_jax.mesa(3.0, temperature=temperature, decay=decay), rule)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_saf_is_drawn_to_stored_outputs(temperature):
    def rule(t, w, memory):
        return slope(w) + RHO * divergence_slope(w, OLD, temperature), memory

    check(sam_jax.saf(RHO, temperature=temperature), rule)


def refused(tx, **given):
    w = jnp.asarray(START)
    arguments = {"objective": OBJECTIVE, "batch": BATCH, **given}
    arguments = {k: v for k, v in arguments.items() if v is not None}
    tx.update(w, tx.init(w), w, **arguments)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (sam_jax.saf(0.1), r"saf received no stored outputs.*past_outputs=.*use mesa"),
        (sam_jax.imb_sam(0.1), r"tail=\(\); name the rare classes"),
        (sam_jax.focal_sam(0.1), r"counts=\(\); give the training examples of every"),
        (sam_jax.imb_sam(0.1, tail=(1,), labels="z"), r"labels='z', .* batch .* has"),
    ],
)
def test_what_a_variant_cannot_do_without_is_asked_for(tx, message):
    with pytest.raises(ValueError, match=message):
        refused(tx)


@pytest.mark.parametrize("factory", [sam_jax.esam, sam_jax.mesa, sam_jax.saf])
def test_a_bare_grad_fn_is_refused(factory):
    with pytest.raises(ValueError, match=r"bare grad_fn.*pass objective=sam_jax"):
        refused(factory(0.1), objective=None, grad_fn=jax.grad(OBJECTIVE.value))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(sam_jax.esam, keep=0.0), r"keep=0.0.*\(0, 1\]"),
        (functools.partial(sam_jax.esam, select=1.5), r"select=1.5.*\(0, 1\]"),
        (functools.partial(sam_jax.focal_sam, focus=-1.0), "focus=-1.0.*>= 0"),
        (functools.partial(sam_jax.mesa, temperature=0.0), r"ture=0.0.*\(0, inf\)"),
        (functools.partial(sam_jax.imb_sam, tail=(0.5,)), r"tail=\(0.5,\); .* such as"),
        (functools.partial(sam_jax.imb_sam, tail="1"), "tail='1'; .*integers >= 0"),
        (functools.partial(sam_jax.imb_sam, tail=1), "tail=1; .*integers >= 0"),
        (functools.partial(sam_jax.focal_sam, counts=(5, -1)), r"counts=\(5, -1\); .*"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(0.1)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (6, 2)])
def test_stored_outputs_are_those_of_the_batch(shape):
    with pytest.raises(ValueError, match=r"saf received past_outputs of the shape"):
        refused(sam_jax.saf(0.1), past_outputs=jnp.zeros(shape))
