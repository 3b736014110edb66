"""A small classification problem that every test of the transforms can use."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax import Objective

jax.config.update("jax_enable_x64", True)
_RNG = np.random.default_rng(0)
BATCH = {
    "x": jnp.asarray(_RNG.standard_normal((8, 4))),
    "y": jnp.asarray(_RNG.integers(0, 3, 8)),
}
PARAMS = {
    "dense": {
        "kernel": jnp.asarray(_RNG.standard_normal((4, 5))),
        "bias": jnp.asarray(_RNG.standard_normal(5)),
    },
    "norm": {"scale": jnp.asarray(1 + 0.1 * _RNG.standard_normal(5))},
    "head": {"kernel": jnp.asarray(_RNG.standard_normal((5, 3)))},
}


def predict(params, batch):
    hidden = batch["x"] @ params["dense"]["kernel"] + params["dense"]["bias"]
    return jnp.tanh(hidden) * params["norm"]["scale"] @ params["head"]["kernel"]


def loss(outputs, batch):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["y"])


OBJECTIVE = Objective(predict, loss)
grad_fn = jax.grad(OBJECTIVE.value)
GRADS = grad_fn(PARAMS, BATCH)


def apply(tx, steps=1, params=PARAMS, batch=BATCH, objective=OBJECTIVE, **extra):
    """Parameters after some steps on the same batch, with the gradient passed in."""
    gradient = jax.grad(objective.value)

    @jax.jit
    def step(params, state, batch, extra):
        updates, state = tx.update(
            gradient(params, batch),
            state,
            params,
            grad_fn=gradient,
            objective=objective,
            batch=batch,
            **extra,
        )
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state, batch, extra)
    return params


def assert_same(received, expected, rtol=1e-12, atol=1e-14):
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        received,
        expected,
    )
