"""Prints how far sum_max under shard_map's default checks is from one device.

Run by test_hazards in a process of its own, which has two devices.
"""

import jax
import jax.numpy as jnp

import sam_jax
from tests.transforms.problems import BATCH, OBJECTIVE, PARAMS

if __name__ == "__main__":
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("devices",), axis_types=automatic)
    spec = jax.sharding.PartitionSpec
    for m in (1, 4, 8):
        tx = sam_jax.sum_max(0.3, m=m, axis_name="devices")

        def gradient(params, batch, tx=tx):
            state = tx.init(params)
            return tx.update(params, state, params, objective=OBJECTIVE, batch=batch)[0]

        mapped = jax.shard_map(
            gradient, mesh=mesh, in_specs=(spec(), spec("devices")), out_specs=spec()
        )
        expected = sam_jax.sharpness_aware_gradient(
            OBJECTIVE, PARAMS, BATCH, rho=0.3, m=m
        ).gradient
        received = jax.jit(mapped)(PARAMS, BATCH)
        distances = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), received, expected)
        print(max(map(float, jax.tree.leaves(distances))))
