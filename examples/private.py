"""DP-SGD: gradients of single examples, clipped, averaged, with noise.

`clipped_gradient` never forms the gradients of single examples. What is private is said
by an accountant, such as dp_accounting's, from the noise multiplier, the sampling rate
and the number of steps; it also asks for Poisson sampling, which is left out here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sam_jax

BATCH, CLIP, MULTIPLIER = 128, 1.0, 0.6


def main(steps: int = 200) -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    x = jnp.asarray(digits.train_images.reshape(-1, 64) / 16, jnp.float32)
    y = jnp.asarray(digits.train_labels)
    objective = sam_jax.Objective(  # SAM
        predict=lambda p, batch: (
            jax.nn.relu(batch["x"] @ p["hidden"]) @ p["head"]
        ),  # SAM
        loss=lambda logits, batch: (
            optax.softmax_cross_entropy_with_integer_labels(  # SAM
                logits, batch["y"]
            )
        ),
    )
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "hidden": jax.random.normal(keys[0], (64, 32), jnp.float32) / 8,
        "head": jax.random.normal(keys[1], (32, 10), jnp.float32) / 6,
    }
    deviation = (
        MULTIPLIER * CLIP / BATCH
    )  # of the mean: one example moves it by CLIP / B
    tx = optax.chain(
        optax.add_noise(deviation**2, 0.0, keys[2]), optax.sgd(0.5, momentum=0.9)
    )

    @jax.jit
    def step(params, state, batch):
        (losses, norms), grads = sam_jax.clipped_gradient(  # SAM
            objective,
            params,
            batch,
            CLIP,
            has_aux=True,  # SAM
        )
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, losses.mean(), (norms > CLIP).mean()

    state, random = tx.init(params), np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(x), BATCH)
        batch = {"x": x[rows], "y": y[rows]}
        params, state, loss, clipped = step(params, state, batch)
    test = jnp.asarray(digits.test_images.reshape(-1, 64) / 16, jnp.float32)
    logits = objective.predict(params, {"x": test})
    wrong = logits.argmax(-1) != jnp.asarray(digits.test_labels)
    figures = {"loss": loss, "clipped": clipped, "test_error": wrong.mean()}
    return {name: float(value) for name, value in figures.items()}


if __name__ == "__main__":
    print(main())
