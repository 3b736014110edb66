"""The table of primitives: an example of every row, seen through and exact, and the
exact fallback for what no row describes."""

import contextlib
import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_jax
from sam_jax.core import implicit
from sam_jax.core.implicit import primitives
from sam_jax.ops import convolution
from tests.core import networks
from tests.core.oracle import assert_agrees, both, distance


def dense(x, w):
    return jnp.tanh(x @ w)


def called(x, w):
    """A derivative inside the network: JAX takes the product x w out of the loop that
    is differentiated, and makes one call of the product and the loop."""

    def layer(x):
        start = jnp.zeros((len(x), 3))
        return lax.scan(lambda h, _: (jnp.tanh(h + x @ w), None), start, length=2)[0]

    return jax.vjp(jax.checkpoint(layer), x)[0]


def convolved(function, x, w):
    layout = ("NHWC", "HWIO", "NHWC")
    x = x[:, :, None, None]
    y = function(x, w, (1, 1), "VALID", dimension_numbers=layout)
    return jnp.tanh(y).sum((1, 2))


def looked_up(x, w):
    return jnp.tanh(jnp.take(w, (x > 0).astype(int), axis=0)).sum(1)


def constrained(x, w):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    return dense(
        x, lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec()))
    )


def resharded(x, w):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    return dense(x, jax.sharding.reshard(w, NamedSharding(mesh, PartitionSpec())))


# Some primitives are named otherwise, or are missing, in other versions of JAX.
CALL = "eval_jaxpr" if jax.__version_info__ >= (0, 11) else "closed_call"
REMAT3 = "RematTraced" if hasattr(jax.config, "jax_remat3") else "remat2"
MISSING = {"closed_call", "eval_jaxpr", "RematTraced"} - {CALL, REMAT3}

# name of the primitive -> (x [N, 5], w) -> logits, and the shape of w
EXAMPLES = {
    "jit": (jax.jit(dense), (5, 3)),
    CALL: (called, (5, 3)),
    "remat2": (lambda x, w: jax.checkpoint(dense)(x, w), (5, 3)),
    REMAT3: (lambda x, w: jax.checkpoint(dense)(x, w), (5, 3)),
    "reshape": (lambda x, w: dense(x, w.reshape(5, 3)), (3, 5)),
    "squeeze": (lambda x, w: dense(x, jnp.squeeze(w, 1)), (5, 1, 3)),
    "convert_element_type": (lambda x, w: dense(x, w.astype(jnp.float32)), (5, 3)),
    "copy": (lambda x, w: dense(x, jnp.copy(w)), (5, 3)),
    "sharding_constraint": (constrained, (5, 3)),
    "reshard": (resharded, (5, 3)),
    "transpose": (lambda x, w: dense(x, w.T), (3, 5)),
    "dot_general": (dense, (5, 3)),
    "conv_general_dilated": (
        functools.partial(convolved, lax.conv_general_dilated),
        (2, 1, 1, 3),
    ),
    convolution.NAME: (
        functools.partial(convolved, convolution.conv_general_dilated),
        (2, 1, 1, 3),
    ),
    "gather": (looked_up, (2, 3)),
}


def make(apply, shape):
    """The network w -> apply(x, w) of one weight, with an L2 term."""
    p = networks.bare(lambda p, b: apply(b["x"], p["w"]), w=shape)
    objective = sam_jax.Objective(
        p.objective.predict, p.objective.loss, networks.half_square
    )
    return p._replace(objective=objective)


def planned(p):
    """How the one weight is held, and why."""
    report = sam_jax.implicit_report(p.objective, p.params, p.batch)
    return report.leaves[0].mode, report.leaves[0].why


@contextlib.contextmanager
def checkpoints_of(name):
    """With the implementation of `jax.checkpoint` whose primitive has this name."""
    if name != "RematTraced":
        yield
        return
    jax.config.update("jax_remat3", True)
    try:
        yield
    finally:
        jax.config.update("jax_remat3", False)


def test_every_row_has_an_example():
    assert EXAMPLES.keys() | MISSING == primitives.UNDERSTOOD.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_has_a_row_is_seen_through_and_exact(name):
    p = make(*EXAMPLES[name])
    with checkpoints_of(name):
        text = str(jax.make_jaxpr(p.objective.predict)(p.params, p.batch))
        assert re.search(rf"= {name}[\[ ]|_prim={name}\[", text)
        assert planned(p)[0] in ("gram", "explicit")
        received, expected = both(p, m=1)
    if name == "convert_element_type":
        # the oracle's perturbed weights are rounded to float32, where ours are added up
        assert distance(received.gradient, expected.gradient) < 1e-6
    else:
        assert_agrees(received, expected)


@pytest.mark.parametrize("name", ["jit", "transpose", "dot_general", REMAT3])
def test_what_has_no_row_is_one_opaque_equation_and_exact(name, monkeypatch):
    monkeypatch.delitem(primitives.UNDERSTOOD, name)
    p = make(*EXAMPLES[name])
    with checkpoints_of(name):
        assert planned(p) == ("materialised", f"read by {name}")
        assert_agrees(*both(p, m=2))


def test_a_parameter_that_is_the_image_of_a_convolution_is_materialised():
    def apply(x, w):
        """One kernel an example, each read from the example."""
        layout = ("NHWC", "HWIO", "NHWC")
        kernels = x.T[:, None, None, :]
        y = lax.conv_general_dilated(
            w, kernels, (1, 1), "VALID", dimension_numbers=layout
        )
        return jnp.tanh(y[0, :, 0, :].T)

    p = make(apply, (1, 7, 1, 1))
    assert planned(p) == ("materialised", "read by conv_general_dilated")
    assert_agrees(*both(p, m=2))


def test_a_call_whose_inside_is_not_found_is_one_opaque_equation(monkeypatch):
    monkeypatch.setitem(primitives.UNDERSTOOD, "integer_pow", primitives.Call())
    p = make(lambda x, w: dense(x, w**2), (5, 3))
    assert planned(p) == ("materialised", "read by integer_pow")
    assert_agrees(*both(p, m=2))


def test_checkpoints_stay_checkpoints_with_their_options():
    keep = jax.checkpoint_policies.dots_saveable
    layer = jax.checkpoint(dense, prevent_cse=False, policy=keep)
    p = make(layer, (5, 3))
    gradient = functools.partial(implicit.gradient, p.objective, rho=0.1)
    text = str(jax.make_jaxpr(gradient)(p.params, p.batch))
    recomputed = re.findall(r"remat2\[.*?differentiated=True.*?\]", text, re.DOTALL)
    assert recomputed
    assert "prevent_cse=True" not in text
    assert "policy=None" not in text
