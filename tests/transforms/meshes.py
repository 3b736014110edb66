"""Prints, as JSON, how far transforms on eight devices are from one device.

Run by test_meshes in a process of its own, which has eight devices; with the argument
"all" for the whole table of variants, else for one of each kind. Two devices share the
weights where these are split: the embedding is gathered where it is used, the head is
used in parts.
"""

import functools
import gc
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sam_jax
from sam_jax.transforms import VARIANTS
from tests.transforms import mesh_networks
from tests.transforms.problems import loss
from tests.transforms.test_battery import FACTORIES

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
PAST = jnp.sin(jnp.arange(48.0)).reshape(16, 3)
KINDS = ("sam", "max_sum", "sum_max", "sam_derivative", "asam", "layerwise_sam")
KINDS += ("gsam", "random_perturbation", "friendly_sam")
CHUNKS = {"m": 2, "chunk": 2}
# What takes a way of its own.
OTHERS = {
    "sam, unnormalised": functools.partial(sam_jax.sam, normalize=False),
    "sum_max, two devices": functools.partial(sam_jax.sum_max, m=4),
    "sum_max, four devices": functools.partial(sam_jax.sum_max, m=8),
    "sum_max, chunks": functools.partial(sam_jax.sum_max, **CHUNKS),
    "sum_max, vmap": functools.partial(sam_jax.sum_max, implicit=False, **CHUNKS),
    "sam_direction, m=1": functools.partial(sam_jax.sam_direction, m=1),
}
CASES = {name: FACTORIES[name] for name in KINDS} | OTHERS
if sys.argv[1:] == ["all"]:
    CASES = {name: FACTORIES[name] for name in VARIANTS}


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


def results(params, batch, other, past, axis_name=None):
    """The updates of every transform."""
    found = {}
    own = params
    if axis_name is not None:
        own = jax.lax.pcast(params, axis_name, to="varying")
    gradient = jax.grad(OBJECTIVE.value)(own, batch)
    extra = {"ascent_batch": other, "past_outputs": past}
    for name, factory in CASES.items():
        tx = factory(0.3, axis_name=axis_name)
        update = functools.partial(tx.update, gradient, tx.init(params), params)
        found[name] = update(objective=OBJECTIVE, batch=batch, **extra)[0]
    return found


def on_mesh(types, weights):
    """A mesh of these axis types, and the arguments of `results` on it."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(types,) * 2)

    def put(tree, specs):
        where = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        return jax.device_put(tree, where)

    batches = [put(b, PartitionSpec("data")) for b in (BATCH, OTHER, PAST)]
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
    expected = jax.device_get(jax.jit(results)(PARAMS, BATCH, OTHER, PAST))
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
        in_specs=(WHOLE, spec, spec, spec),
        out_specs=WHOLE,
    )
    received = jax.jit(mapped)(PARAMS, BATCH, OTHER, PAST)
    found["shard_map"] = distances(received, expected)
    if CASES.keys() >= OTHERS.keys():
        for name, received, expected in mesh_networks.pairs():
            found[name] = distances(received, expected)
    print(json.dumps(found))


if __name__ == "__main__":
    gc.disable()  # takes a fifth of the time of tracing
    jax.config.update("jax_enable_x64", True)
    main()
