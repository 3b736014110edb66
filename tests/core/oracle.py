"""The implicit path and its oracle: vmap over groups, a copy of w for each."""

import functools

import jax
import numpy as np

import sam_jax
from sam_jax.core import ascent, implicit, trees
from sam_jax.core.gradient import sharpness_aware_gradient
from tests.core import networks
from tests.core.networks import PROBLEMS, Problem


@functools.cache
def problem(name, penalised=False):
    made = PROBLEMS[name]()
    if not penalised:
        return made
    objective = sam_jax.Objective(
        made.objective.predict, made.objective.loss, networks.half_square
    )
    return made._replace(objective=objective)


def ours(p: Problem, *, normalize=True, **kwargs):
    gradient = functools.partial(
        implicit.gradient, p.objective, rho=0.3, normalize=normalize, **kwargs
    )
    return jax.jit(gradient)(p.params, p.batch)


def oracle(p: Problem, *, normalize=True, **kwargs):
    rule = ascent.normalized if normalize else ascent.unnormalized
    gradient = functools.partial(
        sharpness_aware_gradient, p.objective, rho=0.3, rule=rule, **kwargs
    )
    return jax.jit(gradient)(p.params, p.batch)


def both(p: Problem, **kwargs):
    return ours(p, **kwargs), oracle(p, **kwargs)


def distance(a, b):
    """|a - b| / |b| over all leaves."""
    difference = jax.tree.map(lambda x, y: trees.widen(x) - trees.widen(y), a, b)
    return float(trees.norm(difference) / trees.norm(b))


def assert_agrees(received, expected, tolerance=1e-12):
    assert distance(received.gradient, expected.gradient) < tolerance
    np.testing.assert_allclose(received.losses, expected.losses, rtol=1e-12)
    np.testing.assert_allclose(
        received.outputs, expected.outputs, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(received.ascent_norm, expected.ascent_norm, rtol=1e-12)
