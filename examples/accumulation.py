"""A batch that does not fit: taken in microbatches, with one perturbation or several.

With `accumulate=k` and nothing else all microbatches share a perturbation: the ascent
is accumulated first, then the descent, and the result is that of the whole batch. With
m examples beside it every m of them have a perturbation of their own (m-SAM).
"""

import jax
import jax.numpy as jnp
import optax

import sam_jax

BATCH, MICROBATCHES = 256, 8


def loss_fn(params, batch):
    h = jax.nn.relu(batch["x"] @ params["hidden"])
    losses = optax.softmax_cross_entropy_with_integer_labels(
        h @ params["head"], batch["y"]
    )
    return losses.mean()


def main() -> dict[str, float]:
    digits = sam_jax.data.load("digits")
    batch = {
        "x": jnp.asarray(digits.train_images.reshape(-1, 64)[:BATCH] / 16),
        "y": jnp.asarray(digits.train_labels[:BATCH]),
    }
    keys = jax.random.split(jax.random.key(0))
    params = {
        "hidden": jax.random.normal(keys[0], (64, 128), batch["x"].dtype) / 8,
        "head": jax.random.normal(keys[1], (128, 10), batch["x"].dtype) / 11,
    }
    ways = {
        "whole": {},
        "shared": {"accumulate": MICROBATCHES},  # SAM
        "own": {"accumulate": MICROBATCHES, "m": BATCH // MICROBATCHES},  # SAM
    }
    gradients, figures = {}, {}
    for name, options in ways.items():
        step = jax.jit(sam_jax.value_and_grad(loss_fn, rho=0.05, **options))  # SAM
        compiled = step.lower(params, batch).compile()
        memory = compiled.memory_analysis()
        _, gradients[name] = compiled(params, batch)
        figures[f"{name}_kib"] = memory.temp_size_in_bytes / 1024
    for name in ("shared", "own"):
        difference = jax.tree.map(jnp.subtract, gradients[name], gradients["whole"])
        length = optax.tree.norm(difference) / optax.tree.norm(gradients["whole"])
        figures[f"{name}_distance"] = float(length)
    return figures


if __name__ == "__main__":
    print(main())
