"""A network as two pure functions, init(key) and apply(params, key, x), as in haiku.

Dropout takes a key; `value_and_grad` hands it to both passes of a step. SAM is on for
the last third of the steps alone, which gives most of its effect for less time: a
Python loop picks between two compiled steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_jax


def init(key):
    first, second = jax.random.split(key)
    return {
        "hidden": {"w": jax.random.normal(first, (64, 32)) / 8, "b": jnp.zeros(32)},
        "head": {"w": jax.random.normal(second, (32, 10)) / 6, "b": jnp.zeros(10)},
    }


def apply(params, key, x):
    h = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
    if key is not None:
        h = h * jax.random.bernoulli(key, 0.8, h.shape) / 0.8
    return h @ params["head"]["w"] + params["head"]["b"]


def loss_fn(params, batch, rngs):
    logits = apply(params, rngs, batch["x"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return losses.mean()


tx = optax.adamw(3e-3)


@functools.partial(jax.jit, static_argnames="rho")
def step(params, state, batch, key, rho):
    value_and_grad = sam_jax.value_and_grad(loss_fn, rho=rho)  # SAM
    loss, grads = value_and_grad(params, batch, rngs=key)  # SAM
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def main(steps: int = 300) -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    x = jnp.asarray(digits.train_images.reshape(-1, 64) / 16, jnp.float32)
    y = jnp.asarray(digits.train_labels)
    params, random = init(jax.random.key(0)), np.random.default_rng(0)
    state, key = tx.init(params), jax.random.key(1)
    for t in range(steps):
        rows = random.integers(0, len(x), 64)
        batch, mask = {"x": x[rows], "y": y[rows]}, jax.random.fold_in(key, t)
        rho = (
            0.05 if t >= 2 * steps // 3 else 0.0
        )  # rho = 0 is the plain gradient  # SAM
        params, state, loss = step(params, state, batch, mask, rho)
    test = jnp.asarray(digits.test_images.reshape(-1, 64) / 16, jnp.float32)
    wrong = apply(params, None, test).argmax(-1) != jnp.asarray(digits.test_labels)
    return {"loss": float(loss), "test_error": float(wrong.mean())}


if __name__ == "__main__":
    print(main())
