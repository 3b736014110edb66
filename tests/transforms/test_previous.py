"""Ascent along what earlier steps have left, against NumPy."""

import pytest

import sam_jax
from tests.transforms.quadratics import check, unit

RHO = 0.3


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_dp_sat_ascends_along_what_the_last_steps_descended(decay):
    def rule(at, w, mean):
        gradient = at(w) if mean is None else at(w + RHO * unit(mean))
        mean = 0.0 if mean is None else mean
        return gradient, decay * mean + (1 - decay) * gradient

    check(sam_jax.dp_sat(RHO, decay=decay), rule)


def test_async_sam_ascends_along_the_last_gradient():
    def rule(at, w, last):
        return at(w) if last is None else at(w + RHO * unit(last)), at(w)

    check(sam_jax.async_sam(RHO), rule)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_msam_ascends_against_the_momentum(momentum):
    def rule(at, w, v):
        gradient = at(w) if v is None else at(w - RHO * unit(v))
        return gradient, gradient if v is None else momentum * v + gradient

    check(sam_jax.msam(RHO, momentum=momentum), rule)


def test_a_momentum_of_one_is_refused():
    with pytest.raises(ValueError, match=r"momentum=1.0.*\[0, 1\)"):
        sam_jax.msam(0.1, momentum=1.0)
