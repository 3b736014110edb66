"""Parameters and optimiser state sharded over eight devices (FSDP), under `jax.jit`.

The code of a step is that of one device: `jax.jit` sees arrays that lie on a mesh, and
the norm of SAM's perturbation is over all shards. m counts examples of the global
batch. Here the eight devices are forced upon a CPU.
"""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_jax


def loss_fn(params, batch):
    h = jax.nn.relu(batch["x"] @ params["hidden"] + params["bias"])
    losses = optax.softmax_cross_entropy_with_integer_labels(
        h @ params["head"], batch["y"]
    )
    return losses.mean()


def train(mesh, steps):
    def on_mesh(axis, tree):
        """The first axis of every array spread over the mesh, or whole everywhere."""
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(axis)))

    digits = sam_jax.data.load("digits")
    x, y = digits.train_images.reshape(-1, 64) / 16, digits.train_labels
    keys = jax.random.split(jax.random.key(0))
    params = {
        "hidden": jax.random.normal(keys[0], (64, 32)) / 8,
        "bias": jnp.zeros(32),
        "head": jax.random.normal(keys[1], (32, 10)) / 6,
    }
    tx = optax.adamw(3e-3)
    params = on_mesh("devices", params)
    state = jax.jit(tx.init)(params)  # its moments lie as the parameters do
    value_and_grad = sam_jax.value_and_grad(loss_fn, rho=0.05)  # SAM

    @jax.jit
    def step(params, state, batch):
        loss, grads = value_and_grad(params, batch)  # SAM
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    random = np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(x), 64)
        batch = on_mesh("devices", {"x": x[rows].astype(np.float32), "y": y[rows]})
        params, state, loss = step(params, state, batch)
    shards = len(params["hidden"]) // len(params["hidden"].addressable_data(0))
    return jax.device_get(params), float(loss), shards


def main(steps: int = 50) -> dict[str, float]:
    found = {}
    for count in (1, 8):
        mesh = jax.make_mesh(
            (count,), ("devices",), (AxisType.Auto,), devices=jax.devices()[:count]
        )
        found[count] = train(mesh, steps)
    (one, loss, _), (eight, _, shards) = found[1], found[8]
    distance = max(float(np.abs(one[name] - eight[name]).max()) for name in one)
    return {"loss": loss, "shards": shards, "distance": distance}


if __name__ == "__main__":
    print(main())
