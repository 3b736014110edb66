"""value_and_grad against jax.value_and_grad, the optax transforms, and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from sam_jax.core.objective import l2_penalty
from sam_jax.transforms import VARIANTS
from tests.transforms.problems import BATCH, GRADS, OBJECTIVE, PARAMS, assert_same

B = len(BATCH["y"])
KEY = jax.random.key(3)
PENALISED = sam_jax.Objective(OBJECTIVE.predict, OBJECTIVE.loss, l2_penalty(0.1))
OTHER = {"x": BATCH["x"][::-1], "y": BATCH["y"]}
EXTRA = {
    "max_sum": {"ascent_batch": OTHER},
    "random_perturbation": {"ascent_key": KEY},
    "esam": {"ascent_key": KEY},
}
OPTIONS = {
    "imb_sam": {"tail": (1,), "labels": "y"},
    "focal_sam": {"counts": (5, 2, 1), "labels": "y"},
}
# Those that see outputs, or losses of examples; saf has no place for its outputs.
NEED_OBJECTIVE = {"sam_direction", "sam_derivative", "esam", *OPTIONS}


def mean_loss(params, batch):
    return OBJECTIVE.value(params, batch)


def with_aux(params, batch):
    return mean_loss(params, batch), {"largest": OBJECTIVE.predict(params, batch).max()}


def noisy(params, batch, scale, rngs):
    """Dropout in all but name: a mask of the hidden layer, drawn from the key."""
    hidden = jnp.tanh(batch["x"] @ params["dense"]["kernel"])
    mask = jax.random.bernoulli(rngs["dropout"], 0.5, hidden.shape)
    logits = hidden * mask * scale @ params["head"]["kernel"]
    return OBJECTIVE.loss(logits, batch).mean()


def twice_noisy(params, batch, key):
    return noisy(params, batch, 2.0, {"dropout": key})


def ours(loss_fn, *args, params=PARAMS, batch=BATCH, **kwargs):
    """Keyword arguments that are arrays or trees go to the function that it returns."""
    names = ("rngs", "ascent_batch", "ascent_key")
    given = {name: kwargs.pop(name) for name in names if name in kwargs}
    function = sam_jax.value_and_grad(loss_fn, **({"rho": 0.3} | kwargs))
    return jax.jit(function)(params, batch, *args, **given)


def hand_written(loss_fn, rho=0.3):
    """(params, *args) -> the loss and SAM's gradient, in one program for all groups."""

    @jax.jit
    def both(params, *args):
        value, g = jax.value_and_grad(loss_fn)(params, *args)
        norm = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g)))
        there = jax.tree.map(lambda w, x: w + rho * x / norm, params, g)
        return value, jax.grad(loss_fn)(there, *args)

    return both


def rows(start, stop):
    return jax.tree.map(lambda x: x[start:stop], BATCH)


def mean_of(parts):
    return jax.tree.map(lambda *x: sum(x) / len(x), *parts)


@pytest.mark.parametrize("accumulate", [None, 4])
def test_at_radius_zero_it_is_jax_value_and_grad(accumulate):
    expected = jax.jit(jax.value_and_grad(with_aux, has_aux=True))(PARAMS, BATCH)
    received = ours(with_aux, rho=0, has_aux=True, accumulate=accumulate)
    if accumulate:
        (value, _), gradient = received
        assert_same((value, gradient), (expected[0][0], expected[1]))
    else:
        assert_same(received, expected)


def test_it_is_a_step_written_by_hand_and_hands_loss_and_aux_on():
    expected = hand_written(mean_loss)(PARAMS, BATCH)
    assert_same(ours(mean_loss), expected)
    (value, aux), gradient = ours(with_aux, has_aux=True)
    assert_same((value, gradient), expected)
    largest = OBJECTIVE.predict(PARAMS, BATCH).max()
    np.testing.assert_allclose(aux["largest"], largest, rtol=1e-14)


STATELESS = [n for n, v in VARIANTS.items() if not v.keeps and n != "saf"]


@pytest.mark.parametrize("kind", STATELESS)
def test_every_kind_is_its_transform_with_the_loss_beside_it(kind):
    """By way of optax with an objective, here with a scalar loss where that does."""
    extra, options = EXTRA.get(kind, {}), OPTIONS.get(kind, {})
    tx = VARIANTS[kind].transformation(0.3, **options)
    expected, _ = jax.jit(functools.partial(tx.update, objective=OBJECTIVE))(
        GRADS, tx.init(PARAMS), PARAMS, batch=BATCH, **extra
    )
    loss_fn = OBJECTIVE if kind in NEED_OBJECTIVE else mean_loss
    value, gradient = ours(loss_fn, kind=kind, **extra, **options)
    assert_same((value, gradient), (OBJECTIVE.value(PARAMS, BATCH), expected), 1e-11)


def test_m_and_swap_choose_the_kind():
    assert_same(ours(OBJECTIVE, m=2), ours(mean_loss, m=2, kind="sum_max"), 1e-11)
    swapped = ours(OBJECTIVE, swap="direction", m=2)
    assert_same(swapped, ours(OBJECTIVE, kind="sam_direction", m=2, implicit=False))


def test_the_value_of_an_objective_has_the_penalty_in_it():
    value, gradient = ours(PENALISED, m=2)
    np.testing.assert_allclose(value, PENALISED.value(PARAMS, BATCH), rtol=1e-14)
    assert_same((value, gradient), ours(PENALISED.value, m=2), 1e-11)


GLOBAL = {
    "sam, two steps": {"ascent_steps": 2},
    "asam": {"kind": "asam", "eta": 0.1},
    "gsam": {"kind": "gsam", "alpha": 0.2},
    "max_sum": {"kind": "max_sum", **EXTRA["max_sum"]},
    "random": {"kind": "random_perturbation", **EXTRA["random_perturbation"]},
    "direction": {"swap": "direction"},
    "derivative": {"swap": "derivative"},
}


@pytest.mark.parametrize("case", GLOBAL)
def test_microbatches_that_share_a_perturbation_are_the_batch(case):
    loss_fn = PENALISED if "swap" in GLOBAL[case] else PENALISED.value
    whole = ours(loss_fn, **GLOBAL[case])
    assert_same(ours(loss_fn, accumulate=4, **GLOBAL[case]), whole, 1e-10)


@pytest.mark.parametrize(
    ("loss_fn", "m", "accumulate"),
    [(PENALISED, 2, 2), (PENALISED.value, 2, 4), (PENALISED.value, 1, 2)],
)
def test_microbatches_with_perturbations_of_their_own_are_groups(
    loss_fn, m, accumulate
):
    """Equal to a loop over groups, and another gradient than that of a shared one."""
    received = ours(loss_fn, m=m, accumulate=accumulate)
    by_hand = hand_written(PENALISED.value)
    parts = [by_hand(PARAMS, rows(i, i + m)) for i in range(0, B, m)]
    assert_same(received, mean_of(parts), 1e-10)
    shared = ours(mean_loss, accumulate=2)[1]["head"]["kernel"]
    assert np.abs(shared - received[1]["head"]["kernel"]).max() > 1e-3


def test_both_passes_draw_the_same_random_numbers():
    expected = hand_written(twice_noisy)(PARAMS, BATCH, KEY)
    assert_same(ours(noisy, 2.0, rngs={"dropout": KEY}), expected)


@pytest.mark.parametrize(
    ("options", "size"), [({"m": 1}, 1), ({"m": 2, "accumulate": 2}, 2)]
)
def test_groups_draw_from_keys_of_their_own_in_both_passes(options, size):
    keys = jax.random.split(KEY, B)
    by_hand = hand_written(twice_noisy)
    parts = [by_hand(PARAMS, rows(i, i + size), keys[i]) for i in range(0, B, size)]
    received = ours(noisy, 2.0, rngs={"dropout": KEY}, **options)
    assert_same(received, mean_of(parts), 1e-10)


def test_microbatches_draw_from_keys_of_their_own_and_share_the_perturbation():
    keys = jax.random.split(KEY, B)

    def whole(w):
        return sum(twice_noisy(w, rows(i, i + 4), keys[i]) for i in (0, 4)) / 2

    received = ours(noisy, 2.0, rngs={"dropout": KEY}, accumulate=2)
    assert_same(received, hand_written(whole)(PARAMS), 1e-10)


def test_keys_reach_the_predict_of_an_objective():
    def predict(params, batch, rngs):
        return OBJECTIVE.predict(params, batch) + jax.random.normal(rngs, (3,))

    objective = sam_jax.Objective(predict, OBJECTIVE.loss)
    keys = jax.random.split(KEY, B)
    by_hand = hand_written(
        lambda w, b, key: OBJECTIVE.loss(predict(w, b, key), b).mean()
    )
    parts = [by_hand(PARAMS, rows(i, i + 1), keys[i]) for i in range(B)]
    assert_same(ours(objective, rngs=KEY, m=1), mean_of(parts), 1e-10)
    bare = jax.random.PRNGKey(3)  # of the old kind, with the numbers of KEY
    assert_same(ours(objective, rngs=bare, m=1), mean_of(parts), 1e-10)


def test_devices_share_a_batch():
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), BATCH)
    for options in ({"m": 2}, {"accumulate": 2}):
        function = sam_jax.value_and_grad(
            PENALISED, rho=0.3, axis_name="devices", **options
        )
        mapped = jax.vmap(function, (None, 0), axis_name="devices")
        received = jax.jit(mapped)(PARAMS, halves)
        first = jax.tree.map(lambda x: x[0], received)
        assert_same(first, ours(PENALISED, m=options.get("m")), 1e-10)


def test_a_scalar_loss_takes_batches_that_are_no_rows():
    batch = {"x": jnp.ones(3), "key": KEY}
    value, gradient = ours(
        lambda w, b: jnp.sum(w * b["x"]) ** 2, params=jnp.ones(3), batch=batch
    )
    np.testing.assert_allclose(value, 9.0)
    np.testing.assert_allclose(gradient, 2 * (3 + 0.3 * np.sqrt(3)), rtol=1e-12)


def test_implicit_gradient_hands_aux_on():
    objective = sam_jax.Objective(
        lambda p, b: (OBJECTIVE.predict(p, b), b["x"].max()), OBJECTIVE.loss, None, True
    )
    gradient = functools.partial(
        sam_jax.implicit_gradient, objective, rho=0.3, m=2, has_aux=True
    )
    (losses, aux), _ = jax.jit(gradient)(PARAMS, BATCH)
    expected = np.asarray(BATCH["x"]).reshape(4, -1).max(1).mean()
    np.testing.assert_allclose(aux, expected, rtol=1e-14)
    assert losses.shape == (B,)


def cost(function, *args, **kwargs):
    return jax.jit(function).lower(*args, **kwargs).compile()


def test_the_loss_costs_no_further_pass():
    """SumMax by optax and here: as many operations, the loss among them."""
    tx = sam_jax.sum_max(0.3)
    update = functools.partial(tx.update, objective=OBJECTIVE, batch=BATCH)
    alone = cost(lambda w: update(w, tx.init(w), w)[0], PARAMS)
    both = cost(sam_jax.value_and_grad(OBJECTIVE, rho=0.3, m=1), PARAMS, BATCH)
    operations = [c.cost_analysis()["flops"] for c in (both, alone)]
    assert operations[0] < 1.02 * operations[1]


@pytest.mark.parametrize("options", [{}, {"m": 64}])
def test_memory_holds_the_activations_of_one_microbatch(options):
    x = jnp.zeros((512, 8), jnp.float32)

    def loss(w, batch):
        return jnp.tanh(jnp.tanh(batch @ w["in"]) @ w["out"]).mean()

    params = {"in": jnp.ones((8, 64), jnp.float32), "out": jnp.ones((64, 8))}
    memory = [
        cost(sam_jax.value_and_grad(loss, rho=0.3, accumulate=k, **options), params, x)
        .memory_analysis()
        .temp_size_in_bytes
        for k in (None, 8)
    ]
    assert memory[1] < memory[0] / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sma"}, "Unknown kind 'sma'; known: sam,"),
        ({"swap": "both"}, "swap='both'; it must be one of"),
        ({"swap": "direction", "kind": "gsam"}, "a swap is a kind of its own"),
        ({"swap": "direction"}, "swap='direction'.*scalar loss.*Objective"),
        ({"kind": "vasso"}, "kind='vasso'.*keeps a state.*optax.chain"),
        ({"eta": 0.1}, "kind='sam', has no option 'eta'"),
        ({"kind": "max_sum", "m": 2}, "has no option 'm'"),
        ({"kind": "max_sum"}, "received no ascent_batch"),
        ({"kind": "random_perturbation"}, "received no ascent_key"),
        ({"rho": -1.0}, "rho=-1.0"),
        ({"m": 3}, r"m=3 .*\[1, 2, 4, 8\]"),
        ({"m": 0}, "received m=0"),
        ({"accumulate": 3}, r"accumulate=3 for 8 examples.*\[1, 2, 4, 8\]"),
        ({"accumulate": 0}, "received accumulate=0"),
        ({"kind": "sum_max", "accumulate": 3}, "accumulate=3 for 8 groups of m=1"),
        ({"m": 4, "accumulate": 4}, r"accumulate=4 for 2 groups of m=4.*\[1, 2\]"),
        ({"has_aux": True}, r"shape \(\) .*has_aux=True; it must return \(loss, aux\)"),
    ],
)
def test_what_does_not_fit_gets_a_line(options, message):
    with pytest.raises(ValueError, match=message):
        ours(mean_loss, **options)


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda w, b: OBJECTIVE.losses(OBJECTIVE.predict(w, b), b), r"shape \(8,\)"),
        (with_aux, "a tuple of 2 with has_aux=False"),
        (lambda w, b: None, "returned None; it must be one real number"),
        (lambda w, b: 1, "one real number"),
    ],
)
def test_a_loss_that_is_no_mean_gets_told(loss_fn, message):
    with pytest.raises(ValueError, match=message):
        ours(loss_fn)
