"""Loops, and weights that are used both ways: against vmap, in both modes, with an L2
term and without."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sam_jax
from sam_jax.core import implicit
from sam_jax.core.implicit import plan
from tests.core import networks
from tests.core.oracle import assert_agrees, both, distance
from tests.core.test_per_example import by_hand, of_groups


def stacked(p, b):
    """Layers with biases, a slice of each for every iteration."""

    def layer(h, own):
        return jnp.tanh(h @ own["w"] + own["b"]), None

    layers = {"w": p["layers"], "b": p["biases"]}
    return jax.lax.scan(layer, b["x"], layers, reverse=True)[0] @ p["out"]


def stacked_twice(p, b):
    """Loops in a loop, with the inner one recomputed in the backward pass."""

    @jax.checkpoint
    def stage(h, layers):
        return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, layers)

    return jax.lax.scan(stage, b["x"], p["layers"])[0] @ p["out"]


def recurrent(p, b):
    """One weight in every iteration."""

    def step(h, x):
        return jnp.tanh(h @ p["w"] + x[:, None]), h.sum()

    h, _ = jax.lax.scan(step, jnp.zeros((len(b["x"]), 5)), b["x"].T)
    return h @ p["out"]


def mapped(p, b):
    """One weight for all pieces of a batch, taken one after another."""
    pieces = jnp.stack([b["x"], 2 * b["x"], -b["x"]])
    return jax.lax.map(lambda x: jnp.tanh(x @ p["w"]), pieces).sum(0) @ p["out"]


def repeated_layers(p, b):
    """Every layer of a stack three times, and transposed."""

    def layer(h, w):
        def again(h, scale):
            return jnp.tanh(scale * jnp.tanh(h @ w) @ w.T), None

        return jax.lax.scan(again, h, jnp.array([1.0, 0.5, 2.0]))

    return jax.lax.scan(layer, b["x"], p["layers"])[0] @ p["out"]


def tied(p, b):
    """An embedding that is looked up and multiplied by, one token out of bounds."""
    ids = (b["x"] * 2).astype(int) % 5
    rows = jnp.take(p["e"], ids.at[0, 0].set(7), axis=0, mode="fill", fill_value=0.5)
    h = jnp.tanh(rows.sum(1) @ p["w"])
    return (h @ p["e"].T) @ p["out"]


def multiplied_first(p, b):
    """The same with the product in front of the lookup."""
    scores = jnp.tanh(jnp.einsum("bk,vk->bv", b["x"], p["e"]))
    ids = (b["x"] > 0).astype(int)
    return scores @ p["w"] + p["e"][ids].sum(1) @ p["out"]


def branching(p, b):
    """One example after another, on a branch that depends on it and on the weights."""

    def one(x):
        h = jnp.tanh(x @ p["w"])
        return jax.lax.cond(
            h.sum() > 0,
            lambda h: jnp.tanh(h @ p["w"]) @ p["out"],
            lambda h: h @ p["other"] - h @ p["out"],
            h,
        )

    return jax.lax.map(one, b["x"])


@jax.custom_jvp
def swish(x):
    return x * jax.nn.sigmoid(x)


swish.defjvp(lambda x, dx: (swish(*x), dx[0] * jax.nn.sigmoid(x[0])))  # not its own


@jax.custom_vjp
def clipped(x):
    return jnp.clip(x, -1, 1)


clipped.defvjp(lambda x: (clipped(x), None), lambda _, g: (g,))  # straight through


def custom(p, b):
    """Activations with derivatives of their own, which both passes keep."""
    return clipped(swish(b["x"] @ p["w"])) @ p["out"]


# predict, shapes of its parameters, and the parameters that must be seen through
NETWORKS = {
    "stacked": (stacked, {"layers": (3, 5, 5), "biases": (3, 5)}, "layers"),
    "stacked twice": (stacked_twice, {"layers": (2, 3, 5, 5)}, "layers"),
    "recurrent": (recurrent, {"w": (5, 5)}, "w"),
    "mapped": (mapped, {"w": (5, 5)}, "w"),
    "repeated layers": (repeated_layers, {"layers": (2, 5, 5)}, "layers"),
    "transposed": (
        lambda p, b: jnp.tanh(jnp.tanh(b["x"] @ p["w"]) @ p["w"].T) @ p["out"],
        {"w": (5, 4)},
        "w",
    ),
    "custom derivatives": (custom, {"w": (5, 5)}, "w"),
    "tied": (tied, {"e": (5, 4), "w": (4, 4)}, "e"),
    "multiplied first": (multiplied_first, {"e": (6, 5), "w": (6, 3)}, "e"),
}
MODES = ("gram", "explicit")


def make(name, penalised):
    predict, shapes, _ = NETWORKS[name]
    p = networks.bare(predict, **shapes, out=(5, 3))
    penalty = networks.half_square if penalised else None
    objective = sam_jax.Objective(p.objective.predict, p.objective.loss, penalty)
    return p._replace(objective=objective)


def in_mode(monkeypatch, mode):
    """Every implicit leaf is held in this mode, whatever it costs."""
    costs = (0.0, 1.0) if mode == "gram" else (1.0, 0.0)
    monkeypatch.setattr(plan, "_costs", lambda uses: costs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_loops_and_tied_weights_are_seen_through_and_exact(name, mode, monkeypatch):
    in_mode(monkeypatch, mode)
    p = make(name, penalised=True)
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    modes = {leaf.path: leaf.mode for leaf in report.leaves}
    assert modes[f"['{NETWORKS[name][2]}']"] == mode


@pytest.mark.parametrize(("penalised", "mode"), [(False, "gram"), (True, None)])
def test_branches_are_seen_through_where_no_penalty_is_lost_in_them(penalised, mode):
    p = networks.bare(branching, w=(5, 5), other=(5, 3), out=(5, 3))
    penalty = networks.half_square if penalised else None
    objective = sam_jax.Objective(p.objective.predict, p.objective.loss, penalty)
    p = p._replace(objective=objective)
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    assert {leaf.mode for leaf in report.leaves} == {mode or "materialised"}


@pytest.mark.parametrize(
    ("name", "mode", "swap"),
    [
        ("stacked", "explicit", "direction"),
        ("repeated layers", "gram", None),
        ("tied", "gram", "derivative"),
    ],
)
def test_groups_of_four_without_a_penalty(name, mode, swap, monkeypatch):
    in_mode(monkeypatch, mode)
    assert_agrees(*both(make(name, penalised=False), m=4, swap=swap))


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    depth=st.integers(1, 3),
    width=st.sampled_from([1, 4]),
    checkpointed=st.booleans(),
    mode=st.sampled_from(MODES),
    m=st.sampled_from([1, 2]),
)
def test_random_stacks_of_a_tied_network(depth, width, checkpointed, mode, m):
    """Tokens looked up, mixed by a layer of each kind, and scored by the embedding."""

    def layer(h, own):
        mixed = jax.nn.softmax(h @ own["mix"] @ h.swapaxes(1, 2)) @ h
        return h + jax.nn.silu(mixed @ own["w"]) * own["scale"], None

    def predict(p, b):
        body = jax.checkpoint(layer) if checkpointed else layer
        names = ("mix", "w", "scale")
        ids = (b["x"] * 3).astype(int) % 6
        h, _ = jax.lax.scan(body, p["e"][ids], {name: p[name] for name in names})
        return jnp.einsum("btd,vd->bv", h, p["e"])[:, :3]

    square = (depth, width, width)
    p = networks.bare(predict, e=(6, width), mix=square, w=square, scale=(depth, width))
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_mode(monkeypatch, mode)
        assert_agrees(*both(p, m=m), tolerance=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_norms_and_clipped_gradients_of_loops(mode, monkeypatch):
    in_mode(monkeypatch, mode)
    p = make("repeated layers", penalised=True)
    norms, expected = by_hand(of_groups(p, p.params, 1), 2.0)
    assert norms.min() < 2.0 < norms.max()
    clipped = functools.partial(sam_jax.clipped_gradient, p.objective)
    (_, received_norms), received = jax.jit(
        lambda params, batch: clipped(params, batch, 2.0, has_aux=True)
    )(p.params, p.batch)
    np.testing.assert_allclose(received_norms, norms, rtol=1e-10)
    assert distance(received, expected) < 1e-10


def test_what_is_compiled_does_not_grow_with_the_depth():
    def equations(depth):
        predict, shapes, _ = NETWORKS["stacked"]
        shapes = {name: (depth, *shape[1:]) for name, shape in shapes.items()}
        p = networks.bare(predict, **shapes, out=(5, 3))
        gradient = functools.partial(implicit.gradient, p.objective, rho=0.1)
        text = str(jax.make_jaxpr(gradient)(p.params, p.batch))
        return len(re.findall(r" = ", text))

    assert equations(2) == equations(12)


@pytest.mark.parametrize(("mode", "numbers"), [("gram", 5 + 5), ("explicit", 5 * 5)])
def test_a_stack_holds_no_more_than_its_layers(mode, numbers, monkeypatch):
    """x and y, or one matrix, for every layer."""
    in_mode(monkeypatch, mode)
    p = make("stacked", penalised=False)
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    held = {leaf.path: leaf.bytes for leaf in report.leaves}
    assert held["['layers']"] == 3 * 8 * numbers
