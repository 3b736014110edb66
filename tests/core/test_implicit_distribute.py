"""Weights made of several parameters: products are multiplied out, and exact."""

import jax
import jax.numpy as jnp
import pytest

import sam_jax
from tests.core import networks
from tests.core.oracle import assert_agrees, both

LORA = {"w": (5, 4), "down": (5, 2), "up": (2, 4), "out": (4, 3)}


def merged(p, b):
    """Low-rank adaptation, merged before it is used (Hu et al. 2022)."""
    w = p["w"] + 0.5 * (p["down"] @ p["up"])
    return jnp.tanh(b["x"] @ w) @ p["out"]


def merged_in_layers(p, b):
    """The same in a stack of layers, merged in the loop, in a checkpoint and a jit."""

    @jax.checkpoint
    @jax.jit
    def layer(h, own):
        w = own["w"] - own["down"] @ own["up"] / 3
        return jnp.tanh(h @ w), None

    layers = {name: p[name] for name in ("w", "down", "up")}
    return jax.lax.scan(layer, b["x"], layers)[0] @ p["out"]


def transposed(p, b):
    """W^T first, and from the right: y^T = (W + B A)^T x^T."""
    w = (p["w"].T + (p["down"] @ p["up"]).T).astype(b["x"].dtype)
    return jnp.tanh(w @ b["x"].T).T @ p["out"]


def scaled_by_numbers(p, b):
    """A number that is computed, a parameter, a sign; both factors made of others."""
    w = -p["w"] * jnp.exp(p["size"]) + (p["down"] * p["size"]) @ (p["up"] + p["up2"])
    return jnp.tanh(b["x"] @ w) @ p["out"]


NETWORKS = {
    "merged": (merged, LORA),
    "in layers": (
        merged_in_layers,
        {"w": (2, 5, 5), "down": (2, 5, 2), "up": (2, 2, 5), "out": (5, 3)},
    ),
    "transposed": (transposed, LORA),
    "scaled by numbers": (scaled_by_numbers, LORA | {"up2": (2, 4), "size": ()}),
}


def make(predict, shapes):
    p = networks.bare(predict, **shapes)
    objective = sam_jax.Objective(
        p.objective.predict, p.objective.loss, networks.half_square
    )
    return p._replace(objective=objective)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_factor_is_seen_through_and_exact(name):
    p = make(*NETWORKS[name])
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    matrices = {leaf.mode for leaf in report.leaves if len(leaf.shape) > 1}
    assert matrices <= {"gram", "explicit"}


def test_groups_of_two_swapped():
    p = networks.bare(merged, **LORA)
    assert_agrees(*both(p, m=2, swap="direction"))


def test_a_made_weight_that_is_used_otherwise_is_materialised_and_exact():
    def standardised(p, b):
        w = p["w"] + p["down"] @ p["up"]
        return jnp.tanh(b["x"] @ (w / jnp.linalg.norm(w))) @ p["out"]

    p = make(standardised, LORA)
    assert_agrees(*both(p, m=1))
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    held = {leaf.path: (leaf.mode, leaf.why) for leaf in report.leaves}
    assert held["['w']"] == ("materialised", "read by add")
    assert held["['up']"] == ("materialised", "read by dot_general")


def test_weights_of_many_terms_are_left_as_they_are():
    def many(p, b):
        w = p["w"]
        for _ in range(9):
            w = w + p["down"] @ p["up"]
        return jnp.tanh(b["x"] @ w) @ p["out"]

    assert_agrees(*both(make(many, LORA), m=1))
