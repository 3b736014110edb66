"""Mixes of gradients, and several ascent steps, against NumPy."""

import functools

import numpy as np
import pytest

import sam_jax
from tests.transforms.quadratics import (
    START,
    A,
    check,
    expected,
    flat,
    received,
    tree,
    unit,
)

RHO = 0.3


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_wsam_weighs_the_rise(gamma):
    def rule(at, w, memory):
        g, gp = at(w), at(w + RHO * unit(at(w)))
        return g + gamma / (1 - gamma) * (gp - g), memory

    check(sam_jax.wsam(RHO, gamma=gamma), rule)


@pytest.mark.parametrize(("trace", "slope"), [(0.5, 0.0), (0.5, 0.4), (0.0, 0.4)])
def test_cr_sam_adds_differences_of_first_and_second_order(trace, slope):
    # On a quadratic the second difference is 0, so the loss has a cubic part.
    def rule(at, w, memory):
        g, delta = at(w), RHO * unit(at(w))
        up, down = at(w + delta), at(w - delta)
        return up + trace * (up + down - 2 * g) + slope * (up - down), memory

    tx = sam_jax.cr_sam(RHO, trace_weight=trace, slope_weight=slope)
    check(tx, rule, cubic=0.2)
    other = expected(functools.partial(without_second, slope), cubic=0.2)
    assert (np.abs(received(tx, cubic=0.2) - other).max() > 1e-3) == (trace > 0)


def without_second(slope, at, w, memory):
    delta = RHO * unit(at(w))
    return at(w + delta) + slope * (at(w + delta) - at(w - delta)), memory


@pytest.mark.parametrize(("steps", "alpha"), [(1, 0.5), (3, 0.7)])
def test_lookbehind_descends_along_all_the_gradients_of_its_ascent(steps, alpha):
    def rule(at, w, memory):
        point, total = w, 0.0
        for _ in range(steps):
            point = point + RHO * unit(at(point))
            total = total + at(point)
        return alpha * total, memory

    tx = sam_jax.lookbehind_sam(RHO, back_steps=steps, interpolation=alpha)
    check(tx, rule)


def test_limits_are_sam():
    def sam(at, w, memory):
        return at(w + RHO * unit(at(w))), memory

    for tx in (
        sam_jax.wsam(RHO, gamma=0.5),
        sam_jax.cr_sam(RHO, trace_weight=0.0, slope_weight=0.0),
        sam_jax.lookbehind_sam(RHO, back_steps=1, interpolation=1.0),
        sam_jax.eigen_sam(RHO, strength=0.0),
        sam_jax.ae_sam(RHO, threshold=-1e9),
    ):
        np.testing.assert_allclose(received(tx), expected(sam), rtol=1e-12)


@pytest.mark.parametrize(("threshold", "decay"), [(0.0, 0.9), (0.3, 0.5)])
def test_ae_sam_ascends_where_the_gradient_is_large(threshold, decay):
    ascents = []

    def rule(at, w, memory):
        mean, variance = memory or (0.0, 0.0)
        square = at(w) @ at(w)
        mean = decay * mean + (1 - decay) * square
        variance = decay * variance + (1 - decay) * (square - mean) ** 2
        steep = square >= mean + threshold * np.sqrt(variance)
        ascents.append(steep)
        gradient = at(w + RHO * unit(at(w))) if steep else at(w)
        return gradient, (mean, variance)

    check(sam_jax.ae_sam(RHO, threshold=threshold, decay=decay), rule)
    assert any(ascents)
    assert not all(ascents)


@pytest.mark.parametrize("refresh", [1, 3])
def test_eigen_sam_leans_to_the_iterate_of_the_power_method(refresh):
    state = sam_jax.eigen_sam(RHO).init(tree(START))
    first = np.asarray(flat(state.variant.vector))

    def rule(at, w, memory):
        count, v = memory or (0, first)
        if count % refresh == 0:
            v = unit(A @ unit(v))
        g = unit(at(w))
        direction = g + 0.4 * np.sign(v @ g) * (v - (v @ g) * g)
        # Longer than rho by what is added: so has the authors' code.
        return at(w + RHO * direction), (count + 1, v)

    check(sam_jax.eigen_sam(RHO, strength=0.4, refresh=refresh), rule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (functools.partial(sam_jax.wsam, gamma=1.0), r"gamma=1.0.*\[0, 1\)"),
        (functools.partial(sam_jax.cr_sam, trace_weight=-1.0), "trace_weight=-1.0"),
        (functools.partial(sam_jax.cr_sam, slope_weight=np.nan), "slope_weight=nan"),
        (functools.partial(sam_jax.lookbehind_sam, back_steps=0), "back_steps=0"),
        (functools.partial(sam_jax.lookbehind_sam, interpolation=2.0), "tion=2.0"),
        (functools.partial(sam_jax.eigen_sam, refresh=0), "refresh=0"),
        (functools.partial(sam_jax.eigen_sam, strength=-0.1), "strength=-0.1"),
        (functools.partial(sam_jax.ae_sam, threshold=np.inf), "threshold=inf"),
        (functools.partial(sam_jax.ae_sam, decay=-0.1), r"decay=-0.1.*\[0, 1\)"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(0.1)
