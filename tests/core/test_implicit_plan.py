"""What the implicit path makes of a network: fallbacks, passes, report, refusals."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from sam_jax.core import implicit
from sam_jax.core.implicit import separable
from tests.core import networks
from tests.core.networks import Problem
from tests.core.oracle import assert_agrees, both, distance, problem


def carried(p, b):
    """A weight that changes from one iteration to the next."""

    def step(carry, _):
        hidden, w = carry
        return (jnp.tanh(hidden @ w), 0.5 * w), None

    (hidden, _), _ = jax.lax.scan(step, (b["x"], p["w"]), length=2)
    return hidden @ p["v"]


def squared_in_a_loop(p, b):
    hidden, _ = jax.lax.scan(
        lambda h, w: (jnp.tanh(h @ w**2), None), b["x"], p["layers"]
    )
    return hidden @ p["w"]


@jax.custom_vjp
def doubled(w):
    return 2 * w


doubled.defvjp(lambda w: (2 * w, None), lambda _, g: (2 * g,))

FALLBACKS = {
    "carried": (
        carried,
        {"w": (5, 5), "v": (5, 3)},
        "w",
        "the carry of a loop",
    ),
    "squared in a loop": (
        squared_in_a_loop,
        {"layers": (2, 5, 5), "w": (5, 3)},
        "layers",
        "integer_pow",
    ),
    "weight squared": (
        lambda p, b: b["x"] @ p["w"] ** 2,
        {"w": (5, 3)},
        "w",
        "integer_pow",
    ),
    "standardised": (
        lambda p, b: b["x"] @ ((p["w"] - p["w"].mean(0)) / p["w"].std(0)),
        {"w": (5, 3)},
        "w",
        "reduce_sum",
    ),
    "custom derivative": (
        lambda p, b: b["x"] @ doubled(p["w"]),
        {"w": (5, 3)},
        "w",
        "custom_vjp",
    ),
    "choice of a branch": (
        lambda p, b: jax.lax.cond(
            p["v"] > 0, lambda x: x @ p["w"], lambda x: -x @ p["w"], b["x"]
        ),
        {"w": (5, 3), "v": ()},
        "v",
        "gt",
    ),
    "in two forms": (
        lambda p, b: jnp.tanh(b["x"] @ p["w"]) @ p["w"].reshape(3, 5)[:, :3],
        {"w": (5, 3)},
        "w",
        "slice",
    ),
    "in two orders": (
        lambda p, b: jnp.tanh(b["x"] @ p["w"]) @ p["w"].reshape(3, 5) @ p["v"],
        {"w": (5, 3), "v": (5, 3)},
        "w",
        "used in several forms",
    ),
    "bias": (
        lambda p, b: b["x"] @ p["w"] + p["v"],
        {"w": (5, 3), "v": (3,)},
        "v",
        "broadcast_in_dim",
    ),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_is_not_understood_is_materialised_and_exact(name):
    predict, shapes, leaf, reason = FALLBACKS[name]
    p = networks.bare(predict, **shapes)
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    (plan,) = (plan for plan in report.leaves if plan.path == f"['{leaf}']")
    assert plan.mode == "materialised"
    assert reason in plan.why


def test_calls_and_checkpoints_are_seen_through():
    def predict(p, b):
        layer = jax.checkpoint(jax.jit(lambda x, w: jnp.tanh(x @ w)))
        return layer(b["x"], p["w"]) @ p["v"]

    p = networks.bare(predict, w=(5, 4), v=(4, 3))
    assert_agrees(*both(p, m=2))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    assert {plan.mode for plan in report.leaves} <= {"gram", "explicit"}


def test_another_penalty_is_materialised_and_exact():
    p = problem("mlp")
    objective = sam_jax.Objective(
        p.objective.predict,
        p.objective.loss,
        lambda w: 0.1 * sum(jnp.sum(jnp.cosh(v)) for v in jax.tree.leaves(w)),
    )
    p = p._replace(objective=objective)
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    assert all(plan.mode == "materialised" for plan in report.leaves)


def test_tokens_out_of_bounds_are_filled_as_jax_fills():
    p = problem("encoder")
    ids = p.batch["x"].at[0, 0].set(networks.TOKENS + 3)

    def predict(params, b):
        rows = jnp.take(params["e"], b["x"], axis=0, mode="fill", fill_value=0.5)
        return jnp.tanh(rows).sum(1) @ params["w"]

    params = {"e": jnp.ones((networks.TOKENS, 4)) * 0.3, "w": jnp.ones((4, 3)) * 0.1}
    params["e"] = params["e"] + 0.01 * jnp.arange(4)
    objective = sam_jax.Objective(predict, p.objective.loss)
    made = Problem(objective, params, {"x": ids, "y": p.batch["y"]})
    assert_agrees(*both(made, m=2))


def test_dropout_masks_are_the_same_in_both_passes():
    def predict(p, b):
        hidden = jnp.tanh(b["x"] @ p["w"])
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 0.5, hidden.shape[1:]))
        return jnp.where(keep(b["key"]), 2 * hidden, 0) @ p["v"]

    p = networks.bare(predict, w=(5, 6), v=(6, 3))
    batch = {**p.batch, "key": jax.random.split(jax.random.key(0), networks.N)}
    assert_agrees(*both(p._replace(batch=batch), m=1))


def test_unused_and_integer_leaves_stay_and_zero_gradients_move_nothing():
    p = networks.bare(lambda p, b: b["x"] @ p["w"], w=(5, 3))
    params = {**p.params, "unused": jnp.ones(4), "steps": jnp.array(3)}
    received, _ = both(p._replace(params=params), m=1)
    np.testing.assert_array_equal(received.gradient["unused"], 0)
    assert received.gradient["steps"] == 0
    objective = sam_jax.Objective(p.objective.predict, lambda z, b: (z**2).sum(1))
    flat = Problem(objective, {"w": jnp.zeros((5, 3))}, p.batch)
    received, _ = both(flat, m=1)
    np.testing.assert_array_equal(received.gradient["w"], 0)
    assert received.ascent_norm == 0


def test_bad_groups_and_leaves_are_refused():
    p = problem("mlp")
    with pytest.raises(ValueError, match="m=3 for a batch of 8"):
        implicit.gradient(p.objective, p.params, p.batch, rho=0.1, m=3)
    with pytest.raises(ValueError, match="chunk=3 for 8 groups"):
        implicit.gradient(p.objective, p.params, p.batch, rho=0.1, chunk=3)
    with pytest.raises(ValueError, match="'both'; it must be one of"):
        implicit.gradient(p.objective, p.params, p.batch, rho=0.1, swap="both")
    c = networks.bare(lambda p, b: (b["x"] @ p["w"]).real, w=(5, 3))
    params = {"w": c.params["w"].astype(jnp.complex128)}
    with pytest.raises(ValueError, match="complex128"):
        implicit.gradient(c.objective, params, c.batch, rho=0.1)


def test_batch_norm_over_single_examples_is_refused():
    module = sam_jax.models.PreActResNet(3, stage_sizes=(1,), width=4)
    x = networks.inputs((8, 8, 1))
    variables = sam_jax.models.initialize(module, jax.random.key(0), (8, 8, 1))

    def predict(params, b):
        return module.apply(
            {**variables, "params": params}, b["x"], train=True, mutable=["batch_stats"]
        )

    objective = sam_jax.Objective(predict, networks.loss, has_aux=True)
    batch = {"x": x, "y": networks.labels()}
    with pytest.raises(ValueError, match="Use norm='group', or larger"):
        implicit.gradient(objective, variables["params"], batch, rho=0.1, m=1)
    received, expected = both(Problem(objective, variables["params"], batch), m=4)
    assert distance(received.gradient, expected.gradient) < 1e-4  # float32
    assert distance(received.aux, expected.aux) < 1e-5


MIXING = {
    "BatchNorm": (
        lambda p, b: _standardised(b["x"] @ p["w"]) @ p["v"],
        networks.loss,
        r"sum of \(B, 6\) into \(6\)",
    ),
    "in-batch negatives": (
        lambda p, b: jnp.tanh(b["x"] @ p["w"]) @ p["v"],
        lambda z, b: -jnp.diagonal(jax.nn.log_softmax(z @ z.T)),
        r"dot_general of .*\(B, 3\).* into \(B, B\)",
    ),
    "weights over the batch": (
        lambda p, b: jnp.tanh(b["x"] @ p["w"]) @ p["v"],
        lambda z, b: networks.loss(z, b) / jnp.sum(b["x"] ** 2),
        r"reduce_sum of \(B, 5\) into \(\)",
    ),
}


def _standardised(x):
    return (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("jit", [False, True])
def test_objectives_that_mix_examples_are_refused_at_m_1(name, jit):
    predict, loss, what = MIXING[name]
    p = networks.bare(predict, w=(5, 6), v=(6, 3))
    objective = sam_jax.Objective(predict, loss)
    ours = functools.partial(sam_jax.implicit_gradient, objective, rho=0.1)
    with pytest.raises(ValueError, match=f"mixes the examples.*{what}.*choose m > 1"):
        (jax.jit(ours) if jit else ours)(p.params, p.batch)
    with pytest.raises(ValueError, match="mixes the examples"):
        sam_jax.implicit_report(objective, p.params, p.batch)
    assert_agrees(*both(Problem(objective, p.params, p.batch), m=4))


@pytest.mark.parametrize("width", separable.PRIMES)
def test_a_layer_as_wide_as_the_traced_batch_is_no_mixture(width):
    p = networks.bare(
        lambda p, b: jnp.tanh(b["x"] @ p["w"]).sum(1, keepdims=True) * p["v"],
        w=(5, width),
        v=(3,),
    )
    assert_agrees(*both(p, m=1))


def test_networks_of_one_batch_size_are_taken_as_they_are():
    p = networks.bare(lambda p, b: b["x"].reshape(1, 5) @ p["w"], w=(5, 3))
    losses, _ = sam_jax.implicit_gradient(p.objective, p.params, p.batch, rho=0.1)
    assert losses.shape == (networks.N,)


def test_a_rho_that_changes_does_not_compile_again():
    p = problem("mlp")

    @jax.jit
    def gradient(params, batch, rho):
        return sam_jax.implicit_gradient(p.objective, params, batch, rho=rho)

    for rho in (0.1, 0.2, 0.5):
        losses, _ = gradient(p.params, p.batch, jnp.asarray(rho))
    assert losses.shape == (networks.N,)
    assert gradient._cache_size() == 1


def test_convolutions_stay_ungrouped_and_no_pass_is_made_twice():
    """A net of two convolutions. Pass 1: two forward and the input gradient of the
    second layer. Pass 2: the same as products with each group's own matrix, which here
    is cheaper than the Gram form, and two weight gradients of all groups together."""

    class Two(networks.nn.Module):
        @networks.nn.compact
        def __call__(self, x, train=False):
            x = jnp.tanh(networks.nn.Conv(4, (3, 3), use_bias=False)(x))
            x = jnp.tanh(networks.nn.Conv(5, (3, 3), use_bias=False)(x))
            return x.mean((1, 2))[:, :3]

    p = networks.linen_problem(Two(), networks.inputs((8, 8, 2)))
    ours = functools.partial(implicit.gradient, p.objective, rho=0.1)
    text = str(jax.make_jaxpr(ours)(p.params, p.batch))
    groups = {int(g) for g in re.findall(r"feature_group_count=(\d+)", text)}
    assert groups <= {1}
    assert {int(g) for g in re.findall(r"batch_group_count=(\d+)", text)} <= {1}
    assert text.count("conv_general_dilated[") == 3 + 2


def test_a_large_materialised_leaf_is_warned_about(monkeypatch):
    monkeypatch.setattr(implicit.gradients, "LARGE", 100)
    predict, shapes, *_ = FALLBACKS["squared in a loop"]
    p = networks.bare(predict, **shapes)
    with pytest.warns(
        UserWarning, match=r"\['layers'\].*read by integer_pow.*Use chunk="
    ):
        implicit.gradient(p.objective, p.params, p.batch, rho=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mlp = networks.bare(lambda p, b: b["x"] @ p["w"], w=(5, 3))
        implicit.gradient(mlp.objective, mlp.params, mlp.batch, rho=0.1)


def test_the_report_is_a_table_with_bytes():
    p = problem("mlp")
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    text = str(report)
    assert "['dense1']['kernel']" in text
    assert "gram" in text
    biases = [leaf for leaf in report.leaves if leaf.path.endswith("['bias']")]
    assert [leaf.bytes for leaf in biases] == [8 * 7, 8 * 5, 8 * 3]
    assert report.total_bytes == 8 * sum(leaf.bytes for leaf in report.leaves)
