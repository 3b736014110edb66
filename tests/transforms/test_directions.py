"""Direction rules against NumPy, and what is no direction rule."""

import functools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sam_jax
from tests.transforms.problems import PARAMS
from tests.transforms.quadratics import START, check, expected, received, tree, unit

RHO = 0.3


@pytest.mark.parametrize("theta", [0.2, 0.7])
def test_vasso_ascends_along_the_average(theta):
    def rule(at, w, mean):
        g = at(w)
        mean = g if mean is None else (1 - theta) * mean + theta * g
        return at(w + RHO * unit(mean)), mean

    check(sam_jax.vasso(RHO, theta=theta), rule)


@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.9), (0.5, 0.3)])
def test_friendly_sam_ascends_along_what_batches_do_not_share(sigma, decay):
    def rule(at, w, mean):
        g = at(w)
        if mean is None:
            return at(w + RHO * unit(g)), g
        direction = g - sigma * mean
        return at(w + RHO * unit(direction)), decay * mean + (1 - decay) * g

    check(sam_jax.friendly_sam(RHO, sigma=sigma, decay=decay), rule)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("ascent", "direction"),
    [
        (optax.trace(0.9), lambda g, old: 0.9 * old + g),
        (optax.scale_by_sign(), lambda g, old: np.sign(g)),
        (optax.ema(0.8, debias=False), lambda g, old: 0.8 * old + 0.2 * g),
    ],
    ids=["momentum", "sign", "average"],
)
def test_any_transformation_is_a_direction_rule(ascent, direction, normalize):
    def rule(at, w, old):
        new = direction(at(w), 0.0 if old is None else old)
        return at(w + RHO * (unit(new) if normalize else new)), new

    check(sam_jax.sam(RHO, ascent=ascent, normalize=normalize), rule)


# What each variant does with the gradient at w and a direction d of ascent.
COMBINED = {
    "asam": lambda at, w, d: at(w + RHO * scales(w) * unit(scales(w) * d)),
    "layerwise_sam": lambda at, w, d: at(w + RHO * leaf_by_leaf(w, d)),
    "gsam": lambda at, w, d: less_gap(at(w), at(w + RHO * unit(d))),
    "stable_sam": lambda at, w, d: norm(at(w)) * unit(at(w + RHO * unit(d))),
    "wsam": lambda at, w, d: at(w) + 4 * (at(w + RHO * unit(d)) - at(w)),
}
OPTIONS = {"asam": {"eta": 0.1}, "gsam": {"alpha": 0.4}, "wsam": {"gamma": 0.8}}
norm = np.linalg.norm


def scales(w):
    return np.abs(w) + 0.1


def leaf_by_leaf(w, d):
    return np.concatenate([norm(w[i]) * unit(d[i]) for i in (np.s_[:4], np.s_[4:])])


def less_gap(g, g_p):
    along = unit(g_p)
    return g_p - 0.4 * (g - (g @ along) * along)


@pytest.mark.parametrize("name", COMBINED)
def test_a_direction_rule_goes_with_a_metric_or_a_mix(name):
    def rule(at, w, old):
        new = at(w) + (0 if old is None else 0.9 * old)
        return COMBINED[name](at, w, new), new

    variant = sam_jax.transforms.VARIANTS[name]
    options = OPTIONS.get(name, {})
    check(variant.transformation(RHO, ascent=optax.trace(0.9), **options), rule)


def test_limits_are_sam():
    def sam(at, w, memory):
        return at(w + RHO * unit(at(w))), memory

    for tx in (
        sam_jax.vasso(RHO, theta=1.0),
        sam_jax.friendly_sam(RHO, sigma=0.0),
        sam_jax.sam(RHO, ascent=optax.identity()),
    ):
        np.testing.assert_allclose(received(tx), expected(sam), rtol=1e-12)


def test_a_schedule_advances_and_the_state_stands_still_where_rho_is_zero():
    tx = sam_jax.active_between(sam_jax.vasso(RHO, theta=0.4), start=2)

    def rule(at, w, memory):
        t, mean = memory or (0, None)
        g = at(w)
        if t < 2:
            return g, (t + 1, None)
        mean = g if mean is None else 0.6 * mean + 0.4 * g
        return at(w + RHO * unit(mean)), (t + 1, mean)

    check(tx, rule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            functools.partial(sam_jax.sam, ascent=optax.trace(0.9), m=4),
            "received m=4 with ascent=; its state belongs to a single ascent step",
        ),
        (
            functools.partial(sam_jax.sam, ascent=optax.trace(0.9), ascent_steps=2),
            "received ascent_steps=2 with ascent=",
        ),
        (functools.partial(sam_jax.sam, ascent="momentum"), "ascent='momentum'"),
        (
            functools.partial(sam_jax.wsam, ascent=optax.trace(0.9), m=4),
            "wsam received m=4 with ascent=",
        ),
        (
            functools.partial(sam_jax.le_sam, ascent=optax.trace(0.9)),
            "le_sam received ascent=.*no option of it",
        ),
        (functools.partial(sam_jax.vasso, m=4), "m=4.*leave m out, or use sam"),
        (functools.partial(sam_jax.vasso, thta=1.0), "thta=1.0.*takes rho, theta, ax"),
        (functools.partial(sam_jax.vasso, theta=0.0), r"theta=0.0.*\(0, 1\]"),
        (functools.partial(sam_jax.friendly_sam, sigma=-1.0), "sigma=-1.0.*>= 0"),
        (functools.partial(sam_jax.friendly_sam, decay=1.0), r"decay=1.0.*\[0, 1\)"),
    ],
)
def test_what_is_no_direction_rule_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(0.1)


def test_an_optimiser_that_would_descend_is_refused():
    tx = sam_jax.sam(0.1, ascent=optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"turns the gradient round.*optax\.trace"):
        tx.init(tree(jnp.asarray(START)))


def test_a_state_inside_multi_transform_is_refused():
    labels = {"dense": "body", "norm": "body", "head": "head"}
    tx = optax.multi_transform(
        {"body": sam_jax.vasso(0.1), "head": optax.identity()}, labels
    )
    with pytest.raises(ValueError, match=r"vasso has a state .*put it in front"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, grad_fn=lambda p, b: p, batch=PARAMS)
