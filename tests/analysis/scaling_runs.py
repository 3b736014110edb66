"""Compiles steps on meshes of eight devices, for test_scaling: what they exchange, and
what the compiler says of their work and memory. Argument: file to write to.
"""

import sys

import jax
import numpy as np

from sam_jax.analysis import compiled
from tests.training import mesh_steps

BATCH, MORE = 64, 128
PIXELS, HIDDEN, CLASSES = 256, 256, 16
# Method -> kind and m on a number of devices along "data".
METHODS = {
    "ERM": lambda data: ("erm", 0),
    "SAM": lambda data: ("sam", 0),
    "m-SAM": lambda data: ("sam", BATCH // data),
    "implicit m = 1": lambda data: ("sum_max", 1),
}
ON_DATA = [(2, 1, 1), (4, 1, 1), (8, 1, 1)]
ON_BOTH = (2, 4, 1)


def look(method, shape, batch=BATCH):
    """Bytes of all-reduces, all-gathers and other collectives, then flops, bytes that
    results take over from arguments, and temporary bytes, all of one device.
    """
    kind, m = METHODS[method](shape[0])
    sizes = mesh_steps.Sizes(batch, PIXELS, HIDDEN, CLASSES)
    take, given = mesh_steps.mapped_step(
        kind, m, "dense", mesh_steps.on_mesh(shape), sizes
    )
    executable = take.lower(*given).compile()
    found = compiled.collectives(executable)
    kinds = ("all-reduce", "all-gather")
    reduced, gathered = (sum(c.nbytes for c in found if c.kind == k) for k in kinds)
    others = sum(c.nbytes for c in found if c.kind not in kinds)
    memory = executable.memory_analysis()
    return np.array(
        [
            reduced,
            gathered,
            others,
            executable.cost_analysis()["flops"],
            memory.alias_size_in_bytes,
            memory.temp_size_in_bytes,
        ]
    )


def main(out):
    jax.config.update("jax_enable_x64", True)
    received = {"SAM on (1, 1, 1)": look("SAM", (1, 1, 1))}
    for method in METHODS:
        for shape in ON_DATA:
            received[f"{method} on {shape}"] = look(method, shape)
        if method != "m-SAM":
            received[f"{method}, more"] = look(method, ON_DATA[-1], MORE)
        if method != "implicit m = 1":
            received[f"{method} on {ON_BOTH}"] = look(method, ON_BOTH)
    np.savez(out, **received)


if __name__ == "__main__":
    main(*sys.argv[1:])
