"""What the penalty is found to be to each parameter, and the L2 term in both passes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sam_jax
from sam_jax.core import implicit
from sam_jax.core.gradient import sharpness_aware_gradient
from sam_jax.core.implicit import penalty
from sam_jax.core.implicit.penalty import L2, Other, Unpenalised
from tests.core import networks
from tests.core.oracle import assert_agrees, both, distance

PARAMS = {"a": jnp.ones((2, 2)), "b": jnp.ones(3)}


def through_integers(p):
    """Its gradient is w rounded down, which is no multiple of w."""
    return jnp.vdot(p["b"].astype(int).astype(float), p["b"])


# penalty -> what it is to a and to b, by hand
FOUND = {
    "half squares": (lambda p: 0.5 * (p["a"] ** 2).sum(), L2(1.0), Unpenalised()),
    "squares by vdot": (lambda p: 3 * jnp.vdot(p["b"], p["b"]), Unpenalised(), L2(6.0)),
    "mean": (lambda p: jnp.mean(jnp.square(p["a"])), L2(0.5), Unpenalised()),
    "less": (
        lambda p: (p["a"] ** 2).sum() / 4 - (p["b"] * p["b"]).sum(),
        L2(0.5),
        L2(-2.0),
    ),
    "difference": (
        lambda p: 0.5 * jnp.vdot(2 * p["b"] - 0.5 * p["b"], p["b"]),
        Unpenalised(),
        L2(1.5),
    ),
    "flat": (lambda p: (p["a"].reshape(-1) ** 2).sum(), L2(2.0), Unpenalised()),
    "transposed": (lambda p: (p["a"] * p["a"].T).sum(), Other(), Unpenalised()),
    "norm": (lambda p: jnp.linalg.norm(p["b"]), Unpenalised(), Other()),
    "linear": (lambda p: p["b"].sum(), Unpenalised(), Other()),
    "from elsewhere": (lambda p: ((p["b"] - 1) ** 2).sum(), Unpenalised(), Other()),
    "weighted": (
        lambda p: (jnp.arange(3) * p["b"] ** 2).sum(),
        Unpenalised(),
        Other(),
    ),
    "through integers": (through_integers, Unpenalised(), Other()),
    "none": (None, Unpenalised(), Unpenalised()),
}


def terms(function, params):
    objective = networks.bare(lambda p, b: b["x"] @ p["w"]).objective
    return penalty.terms(dataclasses.replace(objective, penalty=function), params)


def test_a_penalty_of_arrays_on_a_mesh_is_found_to_be_the_same():
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("data",), axis_types=kinds, devices=jax.devices()[:1])
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    function, *expected = FOUND["less"]
    received = terms(function, jax.device_put(PARAMS, whole))
    assert [term.factor for term in received] == [term.factor for term in expected]


@pytest.mark.parametrize("name", FOUND)
def test_what_a_penalty_is_found_to_be(name):
    function, *expected = FOUND[name]
    received = terms(function, PARAMS)
    assert [type(term) for term in received] == [type(term) for term in expected]
    for term, known in zip(received, expected, strict=True):
        if isinstance(known, L2):
            np.testing.assert_allclose(term.factor, known.factor, rtol=1e-6)


def test_the_product_of_two_parameters_is_no_l2_term():
    """With a factor that is traced, as a coefficient of a jitted step is."""

    def found(factor):
        params = {"a": jnp.ones(3), "b": jnp.zeros(3)}
        received = terms(lambda p: factor * jnp.vdot(p["a"], p["b"]), params)
        assert received == [Other(), Other()]
        return factor

    jax.jit(found)(0.5)


def squares_of_matrices(p):
    """Leaves the biases and the scale out."""
    return 0.05 * sum(jnp.vdot(v, v) for v in p.values() if v.ndim == 2)


def twice(p, b):
    """A layer called twice, with a bias and a scale that no penalty reads."""
    hidden = jnp.tanh(b["x"] @ p["into"])
    for _ in range(2):
        hidden = jnp.tanh(p["scale"] * hidden @ p["w"] + p["bias"])
    return hidden @ p["out"]


@pytest.mark.parametrize(("width", "mode"), [(6, "explicit"), (16, "gram")])
@pytest.mark.parametrize("swap", [None, "direction"])
def test_an_l2_term_of_some_parameters_of_a_layer_called_twice(width, mode, swap):
    p = networks.bare(
        twice,
        into=(5, width),
        w=(width, width),
        bias=(width,),
        scale=(),
        out=(width, 3),
    )
    objective = sam_jax.Objective(twice, networks.loss, squares_of_matrices)
    p = p._replace(objective=objective)
    report = sam_jax.implicit_report(objective, p.params, p.batch)
    assert {leaf.path: leaf.mode for leaf in report.leaves}["['w']"] == mode
    assert_agrees(*both(p, m=1, swap=swap))


def test_a_factor_may_be_traced():
    p = networks.bare(
        lambda p, b: jnp.tanh(b["x"] @ p["w"]) @ p["v"], w=(5, 16), v=(16, 3)
    )

    def gradient(function, factor):
        objective = sam_jax.Objective(
            p.objective.predict,
            networks.loss,
            lambda w: factor * sum(jnp.vdot(v, v) for v in w.values()),
        )
        return function(objective, p.params, p.batch, rho=0.3, m=1).gradient

    received = jax.jit(lambda factor: gradient(implicit.gradient, factor))(0.2)
    expected = gradient(sharpness_aware_gradient, 0.2)
    assert distance(received, expected) < 1e-12
