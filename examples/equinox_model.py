"""An equinox module, with a perturbation of its own for every example (SumMax, m = 1).

`eqx.partition` takes the arrays out of the module: these are what optax sees. Given an
objective, that is outputs and losses apart, no example gets a copy of the weights.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_jax


def main(steps: int = 200) -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    x = jnp.asarray(digits.train_images.reshape(-1, 64) / 16, jnp.float32)
    y = jnp.asarray(digits.train_labels)
    model = eqx.nn.MLP(64, 10, width_size=32, depth=1, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    objective = sam_jax.Objective(  # SAM
        predict=lambda p, batch: jax.vmap(eqx.combine(p, static))(batch["x"]),  # SAM
        loss=lambda logits, batch: (
            optax.softmax_cross_entropy_with_integer_labels(  # SAM
                logits, batch["y"]
            )
        ),
    )
    tx = optax.sgd(0.1, momentum=0.9)
    value_and_grad = sam_jax.value_and_grad(objective, rho=0.02, m=1)  # SAM

    @jax.jit
    def step(params, state, batch):
        loss, grads = value_and_grad(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, random = tx.init(params), np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(x), 64)
        params, state, loss = step(params, state, {"x": x[rows], "y": y[rows]})
    test = jnp.asarray(digits.test_images.reshape(-1, 64) / 16, jnp.float32)
    logits = objective.predict(params, {"x": test})
    wrong = logits.argmax(-1) != jnp.asarray(digits.test_labels)
    return {"loss": float(loss), "test_error": float(wrong.mean())}


if __name__ == "__main__":
    print(main())
