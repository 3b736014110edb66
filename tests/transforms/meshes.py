"""Prints, as JSON, how far every transform on eight devices is from one device.

Run by test_meshes in a process of its own, which has eight devices. Two of them share
the weights where these are split: the embedding is gathered where it is used, the head
is used in parts.
"""

import functools
import gc
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_jax
from sam_jax.transforms import VARIANTS
from tests.transforms.problems import loss

RANDOM = np.random.default_rng(0)
PARAMS = {
    "embed": jnp.asarray(RANDOM.standard_normal((4, 6))),
    "bias": jnp.asarray(RANDOM.standard_normal(6)),
    "head": jnp.asarray(RANDOM.standard_normal((6, 3))),
}
BATCH = {
    "x": jnp.asarray(RANDOM.standard_normal((16, 4))),
    "y": jnp.asarray(RANDOM.integers(0, 3, 16)),
}
OTHER = {"x": BATCH["x"][::-1], "y": BATCH["y"]}
WHOLE, MODEL = PartitionSpec(), PartitionSpec("model")
WEIGHTS = {
    "replicated": {"embed": WHOLE, "bias": WHOLE, "head": WHOLE},
    "split": {"embed": MODEL, "bias": MODEL, "head": MODEL},
}
CHUNKS = {"m": 2, "chunk": 2}
# (transform, options): every variant, and what else takes a way of its own
CASES = [(name, {}) for name in VARIANTS] + [
    ("sam", {"normalize": False}),
    ("sum_max", {"m": 4}),
    ("sum_max", {"m": 8}),
    ("sum_max", CHUNKS),
    ("sum_max", {"implicit": False, **CHUNKS}),
    ("sam_direction", {"m": 1}),
]


def predict(p, b):
    where = jax.typeof(b["x"]).sharding
    if where.mesh.empty or not where.mesh.are_all_axes_explicit:
        return jnp.tanh(b["x"] @ p["embed"] + p["bias"]) @ p["head"]
    embed = jax.sharding.reshard(p["embed"], WHOLE)
    hidden = jnp.tanh(b["x"] @ embed + p["bias"])
    return jnp.dot(hidden, p["head"], out_sharding=PartitionSpec(where.spec[0]))


OBJECTIVE = sam_jax.Objective(predict, loss)


# What takes (params, batch) and has no device axis of its own.
TOOLS = {
    "norms": functools.partial(sam_jax.per_example_norms, OBJECTIVE),
    "clipped": functools.partial(sam_jax.clipped_gradient, OBJECTIVE, clip=0.5),
    "noise": functools.partial(sam_jax.gradient_noise_scale, OBJECTIVE),
    "accumulated": sam_jax.value_and_grad(OBJECTIVE.value, rho=0.3, accumulate=2),
    "in groups": sam_jax.value_and_grad(OBJECTIVE, rho=0.3, m=2, accumulate=4),
}


def results(params, batch, other, axis_name=None):
    """The updates of every transform, and the norms of single examples."""
    found = {}
    own = params
    if axis_name is not None:
        own = jax.lax.pcast(params, axis_name, to="varying")
    gradient = jax.grad(OBJECTIVE.value)(own, batch)
    for name, options in CASES:
        tx = VARIANTS[name].transformation(0.3, axis_name=axis_name, **options)
        update = functools.partial(tx.update, gradient, tx.init(params), params)
        received = update(objective=OBJECTIVE, batch=batch, ascent_batch=other)
        found[f"{name} {options}"] = received[0]
    return found


def on_mesh(types, weights):
    """(parameters, batch, other batch) on a mesh of these axis types."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(types,) * 2)

    def put(tree, specs):
        where = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        return jax.device_put(tree, where)

    batches = [put(b, PartitionSpec("data")) for b in (BATCH, OTHER)]
    return mesh, (put(PARAMS, WEIGHTS[weights]), *batches)


def distances(received, expected):
    """The largest distance of each transform's update."""
    return {
        name: max(
            float(np.abs(np.asarray(a) - b).max())
            for a, b in zip(
                jax.tree.leaves(received[name]), jax.tree.leaves(tree), strict=True
            )
        )
        for name, tree in expected.items()
    }


def main():
    expected = jax.device_get(jax.jit(results)(PARAMS, BATCH, OTHER))
    tools = {name: jax.jit(tool) for name, tool in TOOLS.items()}
    expected_of_tools = {
        name: jax.device_get(tool(PARAMS, BATCH)) for name, tool in tools.items()
    }
    found = {}
    for types, weights in (
        (AxisType.Auto, "split"),
        (AxisType.Explicit, "replicated"),
        (AxisType.Explicit, "split"),
    ):
        mesh, args = on_mesh(types, weights)
        with jax.set_mesh(mesh):
            received = dict(jax.jit(results)(*args))
            received |= {name: tool(*args[:2]) for name, tool in tools.items()}
        found[f"{types.name}, {weights}"] = distances(
            received, expected | expected_of_tools
        )
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    mapped = jax.shard_map(
        functools.partial(results, axis_name="data"),
        mesh=mesh,
        in_specs=(WHOLE, spec, spec),
        out_specs=WHOLE,
    )
    received = jax.jit(mapped)(PARAMS, BATCH, OTHER)
    found["shard_map"] = distances(received, expected)
    print(json.dumps(found))


if __name__ == "__main__":
    gc.disable()  # takes a fifth of the time of tracing
    jax.config.update("jax_enable_x64", True)
    main()
