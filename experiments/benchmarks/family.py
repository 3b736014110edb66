"""What a step of every variant costs against its count of gradients."""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks import networks, rows, timing
from experiments.harness import grids
from sam_jax.core.gradient import Gradient, loss_gradient
from sam_jax.transforms import VARIANTS, Point

NETWORK, BATCH = "conv net 28x28", 128
AT_ONCE = 4  # variants that take turns with one plain step, so that both see one drift
# A Hessian-vector product is in every step on CPU with convolutions.
COSTS = {**grids.PASSES, "eigen_sam": 5.0}
# What some variants cannot do without.
OPTIONS = {"imb_sam": {"tail": (0, 1)}, "focal_sam": {"counts": (9, 1) * 5}}


def over_plain_steps() -> list[rows.Row]:
    """Every variant's step over the plain one, against its gradients.

    The goal is 1.02 of them and .01: 2.05 for two, 1.03 for one.
    """
    problem, measured, names = networks.make(NETWORK, BATCH), [], list(VARIANTS)
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        calls = {"ERM": plain_step(problem)}
        calls |= {name: variant_step(name, problem) for name in some}
        timings = timing.alternate(calls, rounds=20, limit=12.0)
        for name in some:
            cost = COSTS.get(name, VARIANTS[name].gradients)
            goal = round(1.02 * cost + 0.01, 2)
            figure = f"{name} / ERM step, {NETWORK}, batch {BATCH}"
            measured.append(rows.compare(figure, timings, name, "ERM", goal=goal))
    return measured


def plain_step(problem: networks.Problem):
    """A call that takes one plain step of SGD with momentum."""
    return step_by(
        lambda point: loss_gradient(point.oracle, point.params, point.batch),
        None,
        problem,
    )


def variant_step(name: str, problem: networks.Problem):
    """A call that takes one step of a variant, with its state."""
    variant, options = VARIANTS[name], OPTIONS.get(name, {})
    state = None
    if variant.init_state is not None:
        state = jax.jit(variant.init_state)(problem.params)
    return step_by(functools.partial(variant.gradient, **options), state, problem)


def step_by(take_gradient, state, problem: networks.Problem):
    """A call that takes one step along a gradient from wherever it has got to."""
    tx = optax.sgd(0.01, momentum=0.9)
    others = {"inputs": problem.batch["inputs"][::-1], **problem.batch}
    past = jnp.zeros((BATCH, 10), jnp.float32)

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, moments, state, batch, others, past, key):
        point = Point(
            problem.objective,
            params,
            batch,
            jnp.float32(0.1),
            ascent_batch=others,
            key=key,
            state=state,
            past_outputs=past,
        )
        result: Gradient = take_gradient(point)
        updates, moments = tx.update(result.gradient, moments, params)
        params = optax.apply_updates(params, updates)
        return params, moments, result.state, result.losses

    params = jax.tree.map(jnp.copy, problem.params)
    carried = [params, tx.init(params), state]
    key = jax.random.key(0)

    def call():
        *carried[:], losses = step(*carried, problem.batch, others, past, key)
        return losses

    return call
