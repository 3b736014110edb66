"""Prints how far sum_max under shard_map's default checks is from one device.

Run by test_hazards in a process of its own, which has two devices. Dense layers first,
then the library's convolutions: of an image, and of one smaller than the kernel.
"""

import functools

import jax
import jax.numpy as jnp

import sam_jax
from sam_jax.ops.convolution import conv_general_dilated
from tests.transforms.problems import BATCH, OBJECTIVE, PARAMS, loss

NUMBERS = ("NHWC", "HWIO", "NHWC")


def predict(params, batch):
    x = jnp.tanh(jnp.sin(jnp.arange(192.0)) * batch["x"][:, :1]).reshape(-1, 8, 8, 3)
    for kernel in (params["first"], params["second"]):
        y = conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)
        x = jnp.tanh(y[:, ::4, ::4])
    return x.mean((1, 2))


KERNELS = {
    "first": jnp.cos(jnp.arange(108.0)).reshape(3, 3, 3, 4),
    "second": jnp.cos(jnp.arange(108.0)).reshape(3, 3, 4, 3),
}

if __name__ == "__main__":
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("devices",), axis_types=automatic)
    spec = jax.sharding.PartitionSpec
    convolutions = sam_jax.Objective(predict, loss)
    for objective, params in ((OBJECTIVE, PARAMS), (convolutions, KERNELS)):
        for m in (1, 4, 8):
            tx = sam_jax.sum_max(0.3, m=m, axis_name="devices")

            def gradient(params, batch, tx=tx, objective=objective):
                state = tx.init(params)
                return tx.update(
                    params, state, params, objective=objective, batch=batch
                )[0]

            mapped = jax.shard_map(
                gradient,
                mesh=mesh,
                in_specs=(spec(), spec("devices")),
                out_specs=spec(),
            )
            alone = functools.partial(
                sam_jax.sharpness_aware_gradient, objective, rho=0.3, m=m
            )
            expected = jax.jit(alone)(params, BATCH).gradient
            received = jax.jit(mapped)(params, BATCH)
            distances = jax.tree.map(
                lambda a, b: jnp.abs(a - b).max(), received, expected
            )
            print(max(map(float, jax.tree.leaves(distances))))
