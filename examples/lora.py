"""LoRA: a trained network is tuned to other data by low-rank factors, W + B A.

The factors alone are parameters; the frozen weights are closed over, and so they are
neither perturbed nor trained, and the norm of the perturbation is that of the factors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_jax

RANK = 4


def predict(weights, x):
    return jax.nn.relu(x @ weights["hidden"]) @ weights["head"]


def merged(frozen, factors):
    return {
        name: w + factors[name]["b"] @ factors[name]["a"] for name, w in frozen.items()
    }


def loss(weights, batch):
    logits = predict(weights, batch["x"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return losses.mean()


def train(value_and_grad, params, tx, x, y, steps):
    @jax.jit
    def step(params, state, batch):
        _, grads = value_and_grad(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state, random = tx.init(params), np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(x), 64)
        params, state = step(params, state, {"x": x[rows], "y": y[rows]})
    return params


def main(steps: int = 200) -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    x = jnp.asarray(digits.train_images.reshape(-1, 64) / 16, jnp.float32)
    y = jnp.asarray(digits.train_labels)
    keys = jax.random.split(jax.random.key(0), 3)
    frozen = {
        "hidden": jax.random.normal(keys[0], (64, 32)) / 8,
        "head": jax.random.normal(keys[1], (32, 10)) / 6,
    }
    frozen = train(jax.value_and_grad(loss), frozen, optax.adam(3e-3), x, y, steps)
    other = x.reshape(-1, 8, 8)[:, ::-1].reshape(-1, 64)  # digits upside down
    factors = {
        name: {
            "a": jax.random.normal(keys[2], (RANK, w.shape[1])) / RANK,
            "b": jnp.zeros((w.shape[0], RANK)),
        }
        for name, w in frozen.items()
    }
    tuned = sam_jax.value_and_grad(  # SAM
        lambda f, batch: loss(merged(frozen, f), batch),  # SAM
        rho=0.05,  # SAM
    )
    factors = train(tuned, factors, optax.adam(1e-2), other, y, steps)
    return {
        name: float((predict(weights, other).argmax(-1) != y).mean())
        for name, weights in (("frozen", frozen), ("tuned", merged(frozen, factors)))
    }


if __name__ == "__main__":
    print(main())
