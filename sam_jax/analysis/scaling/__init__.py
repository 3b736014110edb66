"""What SAM costs on many chips, by arithmetic: docs/scaling.md has the tables.

A network is a list of matrix products, [T, K] by [K, N] for an example: T positions, K
inputs, N outputs (a convolution on its patches). Everything follows from that list: the
multiplications of a step, the bytes that chips exchange, the memory of a chip.

`python -m sam_jax.analysis.scaling` prints the tables.
"""

from sam_jax.analysis.scaling.costs import (
    BYTES,
    H100,
    METHODS,
    TPU_V5P,
    Chip,
    Memory,
    Traffic,
    all_reduce_seconds,
    compute_seconds,
    gather_seconds,
    memory,
    multiplications,
    places,
    step_seconds,
    traffic,
)
from sam_jax.analysis.scaling.networks import (
    NETWORKS,
    Layer,
    Network,
    gpt,
    llama_70b,
    resnet50,
    vit_base,
)
from sam_jax.analysis.scaling.tables import tables

__all__ = [
    "BYTES",
    "H100",
    "METHODS",
    "NETWORKS",
    "TPU_V5P",
    "Chip",
    "Layer",
    "Memory",
    "Network",
    "Traffic",
    "all_reduce_seconds",
    "compute_seconds",
    "gather_seconds",
    "gpt",
    "llama_70b",
    "memory",
    "multiplications",
    "places",
    "resnet50",
    "step_seconds",
    "tables",
    "traffic",
    "vit_base",
]
