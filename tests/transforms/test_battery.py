"""What holds for every transform: rho = 0, dtypes, transformations, places in optax."""

import functools
import inspect
import math
import pydoc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import sam_jax
from sam_jax.transforms import VARIANTS, checks
from tests.transforms.problems import (
    BATCH,
    GRADS,
    OBJECTIVE,
    PARAMS,
    apply,
    assert_same,
    grad_fn,
)

FACTORIES = {name: variant.transformation for name, variant in VARIANTS.items()} | {
    "sam, two steps": functools.partial(sam_jax.sam, ascent_steps=2),
    "sam, unnormalised": functools.partial(sam_jax.sam, normalize=False),
    "sum_max, vmap": functools.partial(sam_jax.sum_max, implicit=False),
    "sum_max, m=2": functools.partial(sam_jax.sum_max, m=2),
    "sum_max, chunks": functools.partial(sam_jax.sum_max, m=2, chunk=2),
    "sam, momentum": functools.partial(sam_jax.sam, ascent=optax.trace(0.9)),
    "sam_derivative, m=2": functools.partial(sam_jax.sam_derivative, m=2),
}
# What some variants cannot do without, or hardly differ without.
FACTORIES |= {
    "imb_sam": functools.partial(sam_jax.imb_sam, tail=(1,), labels="y"),
    "mesa": functools.partial(sam_jax.mesa, temperature=1.0, decay=0.5),
    "focal_sam": functools.partial(sam_jax.focal_sam, counts=(5, 2, 1), labels="y"),
}
every = pytest.mark.parametrize("name", FACTORIES)
# What the factory does for all: quickly for one variant of each kind.
ALIKE = set(VARIANTS) - {"sam", "sum_max", "max_sum", "sam_direction", "asam", "gsam"}
ALIKE -= {"random_perturbation", "friendly_sam", "dp_sat", "esam", "mesa", "saf"}
some = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.heavy) if n in ALIKE else n for n in FACTORIES],
)
HALF = jax.tree.map(lambda x: x[:4], BATCH)
EXTRA = {"ascent_batch": HALF, "past_outputs": jnp.sin(jnp.arange(24.0)).reshape(8, 3)}
SGD = optax.sgd(0.1, momentum=0.9)


def run(tx, steps=2, **kwargs):
    return apply(tx, steps, **{**EXTRA, **kwargs})


@functools.cache
def expected(name, steps=2):
    return run(optax.chain(FACTORIES[name](0.3), SGD), steps)


@functools.cache
def plain():
    return run(SGD)


@every
def test_rho_zero_is_exactly_the_base_optimiser(name):
    received = run(optax.chain(FACTORIES[name](0.0), SGD))
    jax.tree.map(np.testing.assert_array_equal, received, plain())


@every
def test_rho_matters(name):
    leaf = ("dense", "kernel")
    moved = expected(name)[leaf[0]][leaf[1]] - plain()[leaf[0]][leaf[1]]
    assert np.abs(moved).max() > 1e-4


@pytest.mark.parametrize("name", ["sam", "sum_max, chunks", "gsam"])
def test_without_jit(name):
    with jax.disable_jit():
        received = run(optax.chain(FACTORIES[name](0.3), SGD), 1)
    assert_same(received, expected(name, 1))


@some
def test_under_vmap_over_rho(name):
    def tx(rho):
        return optax.chain(FACTORIES[name](rho), SGD)

    received = jax.vmap(lambda rho: run(tx(rho)))(jnp.array([0.1, 0.3]))
    assert_same(jax.tree.map(lambda x: x[1], received), expected(name))


@some
def test_inject_hyperparams(name):
    factory, options = FACTORIES[name], {}
    if isinstance(factory, functools.partial):
        factory, options = factory.func, factory.keywords
    counts = {"m", "chunk", "ascent_steps"} & set(options)
    injected = optax.inject_hyperparams(factory, static_args=counts)(0.3, **options)
    received = run(optax.chain(injected, SGD))
    assert_same(received, expected(name))


@some
def test_apply_if_finite(name):
    tx = optax.apply_if_finite(optax.chain(FACTORIES[name](0.3), SGD), 3)
    assert_same(run(tx), expected(name))


@every
def test_bf16_parameters_stay_bf16(name):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    batch = {"x": BATCH["x"].astype(jnp.bfloat16), "y": BATCH["y"]}
    received = run(FACTORIES[name](0.3), 1, params=params, batch=batch)
    assert all(p.dtype == jnp.bfloat16 for p in jax.tree.leaves(received))
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(received))


@every
def test_integer_leaves_and_empty_subtrees_ride_along(name):
    params = {**PARAMS, "steps": jnp.array(5), "empty": {}}
    tx = optax.chain(FACTORIES[name](0.3), optax.sgd(0.1))
    grads = {**GRADS, "steps": jnp.array(0), "empty": {}}
    update = jax.jit(functools.partial(tx.update, objective=OBJECTIVE))
    updates, _ = update(grads, tx.init(params), params, batch=BATCH, **EXTRA)
    received = optax.apply_updates(params, updates)
    assert received.pop("steps") == 5
    assert received.pop("empty") == {}
    assert_same(received, run(optax.chain(FACTORIES[name](0.3), optax.sgd(0.1)), 1))


@some
def test_a_constant_schedule_is_the_constant(name):
    """That schedules advance is hazard 3."""
    received = run(optax.chain(FACTORIES[name](lambda step: 0.3), SGD))
    assert_same(received, expected(name))


@every
@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_no_radius_is_refused(name, rho):
    with pytest.raises(ValueError, match=r"received rho=.*finite number >= 0"):
        FACTORIES[name](rho)


@every
@pytest.mark.parametrize("missing", ["params", "batch", "objective"])
def test_a_missing_argument_of_update_is_named(name, missing):
    tx = FACTORIES[name](0.3)
    given = {"params": PARAMS, "batch": BATCH, "objective": OBJECTIVE}
    del given[missing]
    with pytest.raises(ValueError, match=rf"received no .*{missing}.*update\(grads"):
        tx.update(GRADS, tx.init(PARAMS), **EXTRA, **given)


@some
def test_several_devices_share_a_batch(name):
    """pmap on one device with an axis name; several devices: tests/training."""
    tx = optax.chain(FACTORIES[name](0.3, axis_name="devices"), SGD)
    received = jax.pmap(lambda p: run(tx, params=p), axis_name="devices")(
        jax.tree.map(lambda p: p[None], PARAMS)
    )
    assert_same(jax.tree.map(lambda p: p[0], received), expected(name))


def test_every_variant_is_public_and_has_its_gradients_options():
    for name, variant in VARIANTS.items():
        assert getattr(sam_jax, name) is variant.transformation
        assert name in sam_jax.__all__
        signature = inspect.signature(variant.transformation).parameters
        received = {p.name: p.default for p in signature.values()}
        assert received.pop("rho") is inspect.Parameter.empty
        assert received.pop("axis_name") is None
        received.pop("seed", None)  # makes the key of a point
        assert received == variant.options


def test_help_shows_plain_defaults():
    """Counts are numpy's for the sake of optax.inject_hyperparams: no np.int64(1)."""
    shown = {n: pydoc.plain(pydoc.render_doc(getattr(sam_jax, n))) for n in VARIANTS}
    for name, text in shown.items():
        assert "np.int64(" not in text, name
    assert "ascent_steps: int | numpy.integer = 1," in shown["sam"]


def test_flax_linen_and_nnx_give_the_same_step():
    net = linen.Dense(3)
    variables = net.init(jax.random.key(0), BATCH["x"])

    def loss(outputs, batch):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"])

    objective = sam_jax.Objective(lambda p, b: net.apply(p, b["x"]), loss)
    tx = optax.chain(sam_jax.sum_max(0.3), optax.sgd(0.1))
    linen_params = apply(tx, params=variables, objective=objective)["params"]

    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    model.kernel[...] = variables["params"]["kernel"]
    model.bias[...] = variables["params"]["bias"]
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    graph, params = nnx.split(model, nnx.Param)

    def predict(params, batch):
        return nnx.merge(graph, params)(batch["x"])

    nnx_objective = sam_jax.Objective(predict, loss)
    grads = jax.grad(nnx_objective.value)(params, BATCH)
    optimizer.update(model, grads, objective=nnx_objective, batch=BATCH)
    np.testing.assert_allclose(model.kernel[...], linen_params["kernel"], rtol=1e-6)
    np.testing.assert_allclose(model.bias[...], linen_params["bias"], atol=1e-6)


def test_multi_transform_takes_any_place():
    """In front of it SAM perturbs everything; inside it, its own leaves alone."""
    labels = {"dense": "body", "norm": "body", "head": "head"}
    bases = {"body": optax.sgd(0.1), "head": optax.adam(0.01)}
    outside = optax.chain(sam_jax.sam(0.3), optax.multi_transform(bases, labels))
    received = apply(outside)
    assert_same(
        received["dense"], apply(optax.chain(sam_jax.sam(0.3), bases["body"]))["dense"]
    )
    inside = optax.multi_transform(
        {**bases, "body": optax.chain(sam_jax.sam(0.3), bases["body"])}, labels
    )
    received = apply(inside, full_params=PARAMS)
    mask = {
        "dense": {"kernel": True, "bias": True},
        "norm": {"scale": True},
        "head": {"kernel": False},
    }
    only = optax.chain(sam_jax.only(mask, sam_jax.sam(0.3)), bases["body"])
    assert_same(received["dense"], apply(only)["dense"])
    assert_same(received["head"], apply(bases["head"])["head"])
    with pytest.raises(ValueError, match="Pass full_params=params"):
        apply(inside)


def test_state_reports_the_length_of_the_perturbation():
    tx = sam_jax.sam(0.3)
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS, grad_fn=grad_fn, batch=BATCH)
    assert state.count == 1
    np.testing.assert_allclose(state.ascent_norm, 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sam_jax.sum_max(0.1, m=0), "m=0; it must be a Python integer >= 1"),
        (lambda: sam_jax.sum_max(0.1, chunk=-1), "chunk=-1.*or None"),
        (lambda: sam_jax.sam(0.1, ascent_steps=0), "ascent_steps=0"),
        (lambda: sam_jax.asam(0.1, eta=-1.0), "eta=-1.0; it must be a finite"),
        (lambda: sam_jax.gsam(0.1, alpha=float("nan")), "alpha=nan"),
        (lambda: sam_jax.periodic(sam_jax.sam(0.1), 0), "every=0"),
        (lambda: sam_jax.active_between(sam_jax.sam(0.1), 5, 2), "start=5, stop=2"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("option", sorted(checks.CHECKS))
@pytest.mark.parametrize("value", ["much", None, jnp.ones(2), -math.inf])
def test_no_option_of_any_variant_takes_what_is_no_number(option, value):
    takers = [name for name, v in VARIANTS.items() if option in v.options]
    assert takers
    if value is None and VARIANTS[takers[0]].options[option] is None:
        return  # it may be left out
    with pytest.raises(ValueError, match=f"received {option}="):
        getattr(sam_jax, takers[0])(0.1, **{option: value})


@pytest.mark.parametrize(
    "name", sorted(n for n, v in VARIANTS.items() if "m" not in v.options)
)
def test_variants_of_the_whole_batch_have_no_groups(name):
    with pytest.raises((ValueError, TypeError), match=r"\bm\b"):
        getattr(sam_jax, name)(0.1, m=2)


def test_a_mask_that_selects_nothing_is_refused():
    nothing = sam_jax.only(lambda p: jax.tree.map(lambda _: False, p), sam_jax.sam(0.1))
    with pytest.raises(ValueError, match="a mask that selects no parameter"):
        apply(nothing)


@pytest.mark.parametrize("radius", [-1.0, jnp.ones(2), np.nan])
def test_a_schedule_that_returns_no_radius_is_refused(radius):
    tx = sam_jax.sam(lambda step: radius)
    with pytest.raises(ValueError, match=r"sam received rho=.*finite number >= 0"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS, grad_fn=grad_fn, batch=BATCH)


@pytest.mark.parametrize("rho", [-1.0, np.nan, np.inf])
def test_the_bare_gradients_refuse_what_is_no_radius(rho):
    for function in (sam_jax.implicit_gradient, sam_jax.sharpness_aware_gradient):
        with pytest.raises(ValueError, match=r"received rho=.*finite number >= 0"):
            function(OBJECTIVE, PARAMS, BATCH, rho=rho)


def test_a_batch_of_no_examples_is_refused():
    empty = jax.tree.map(lambda x: x[:0], BATCH)
    with pytest.raises(ValueError, match="batch of no examples"):
        sam_jax.implicit_gradient(OBJECTIVE, PARAMS, empty, rho=0.1)


def test_a_gradient_that_is_not_like_the_parameters_is_named():
    def other(params, batch):
        grads = grad_fn(params, batch)
        return grads | {"head": {"kernel": grads["head"]["kernel"].T}}

    tx = sam_jax.sam(0.1)
    wrong = other(PARAMS, BATCH)
    with pytest.raises(ValueError, match=r"shape \(3, 5\) for .* \['head'\]"):
        tx.update(wrong, tx.init(PARAMS), PARAMS, grad_fn=other, batch=BATCH)
    renamed = {("top" if k == "head" else k): v for k, v in GRADS.items()}
    with pytest.raises(ValueError, match=r"gradient of structure .*'top'"):
        tx.update(renamed, tx.init(PARAMS), PARAMS, grad_fn=grad_fn, batch=BATCH)


def test_groups_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"m=3 for a batch of 8.*\[1, 2, 4, 8\]"):
        apply(sam_jax.sum_max(0.1, m=3))


def test_traced_counts_name_the_fix():
    with pytest.raises(ValueError, match="list 'm' in static_args"):
        checks.check_count("sum_max", "m", jnp.array(2))
