"""Work, exchange, memory and time of a step, from a network and a mesh of chips."""

from typing import NamedTuple

from sam_jax.analysis.scaling.networks import Network

BYTES = 4  # of a parameter, its gradient and each moment of an optimiser, in float32
# How often an explicit layer's matrix, of every example, goes through a chip's memory:
# the gradient is written and read, w plus its multiple is written.
PASSES = 3
METHODS = ("ERM", "SAM", "m-SAM", "implicit m = 1")


class Chip(NamedTuple):
    """flops: most multiply-adds of bfloat16 a second, counted as two. memory: bytes.
    bandwidth: of the memory, bytes/s. near, far: bytes/s that a chip sends to others of
    its node, and of other nodes. node: chips of a node. used: part of `flops` that
    training reaches. source: of the figures.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    near: float
    far: float
    node: int
    used: float
    source: str


H100 = Chip(
    "NVIDIA H100 SXM",
    989e12,
    80e9,
    3.35e12,
    450e9,
    50e9,
    8,
    0.4,
    "NVIDIA's data sheet (NVLink 900 GB/s both ways), one 400 Gb/s adapter a chip",
)
TPU_V5P = Chip(
    "Google TPU v5p",
    459e12,
    95e9,
    2.765e12,
    600e9,
    600e9,
    8960,
    0.4,
    "Google Cloud's page on v5p (interconnect 1200 GB/s both ways)",
)


def multiplications(network: Network, method: str) -> int:
    """Of a step, an example.

    A pass is forward, and backward twice as much: to the inputs, and to the weights.
    Pass 1 of implicit m = 1 needs no gradient of weights; each layer then adds either
    gram matrices or, explicitly, that gradient, of every example on its own.
    """
    if method == "ERM":
        return 3 * network.forward
    if method in ("SAM", "m-SAM"):
        return 6 * network.forward
    layers = sum(
        5 * layer.multiplications + min(layer.gram, layer.multiplications)
        for layer in network.layers
    )
    return layers + 6 * network.attention


class Traffic(NamedTuple):
    """Bytes that one chip makes of others' in each pass of a step.

    gathered: of weights, all-gather over "fsdp", once forward and once backward.
    scattered: of the gradient, reduce-scatter over "fsdp". reduced: all-reduce of the
    gradient (its part on this chip) over "data". All per pass, in the order of passes.
    """

    gathered: tuple[float, ...]
    scattered: tuple[float, ...]
    reduced: tuple[float, ...]


def traffic(parameters: float, method: str, data: int, fsdp: int) -> Traffic:
    """What a step exchanges on a mesh of data x fsdp chips; scalars are left out.

    SAM averages the ascent gradient over all chips, so that two passes are alike. With
    m at most the batch of a place of "data" (m-SAM here, and implicit m = 1), every
    such place ascends on its own: its first pass all-reduces nothing. Implicit m = 1
    takes no gradient of weights in its first pass, and has nothing to scatter.
    """
    weights = BYTES * parameters
    passes = 1 if method == "ERM" else 2
    alone = method in ("m-SAM", "implicit m = 1")
    gathered = (2 * weights if fsdp > 1 else 0.0,) * passes
    scatter, reduce = [], []
    for i in range(passes):
        first = passes == 2 and i == 0
        nothing = first and method == "implicit m = 1"
        scatter.append(weights if fsdp > 1 and not nothing else 0.0)
        reduce.append(weights / fsdp if data > 1 and not (first and alone) else 0.0)
    return Traffic(gathered, tuple(scatter), tuple(reduce))


def gather_seconds(nbytes: float, chips: int, chip: Chip) -> float:
    """Of a ring all-gather, or reduce-scatter, of arrays of so many bytes in all.

    Within a node by its own links, of what the nodes' adapters bring at the same time.
    """
    inside = min(chips, chip.node)
    nodes = max(1, chips // chip.node)
    near = nbytes * (inside - 1) / inside / chip.near
    far = nbytes / inside * (nodes - 1) / nodes / chip.far
    return near + far


def all_reduce_seconds(nbytes: float, chips: int, chip: Chip, apart: int = 1) -> float:
    """Of a ring all-reduce: a reduce-scatter and an all-gather.

    Args:
      apart: chips from one to the next: those of a whole node or more share no node.
    """
    if apart >= chip.node:
        return 2 * nbytes * (chips - 1) / chips / chip.far
    return 2 * gather_seconds(nbytes, chips, chip)


def compute_seconds(network: Network, method: str, examples: int, chip: Chip) -> float:
    """Of a step's multiplications, and of the matrices of explicit layers in memory."""
    work = 2 * multiplications(network, method) * examples
    seconds = work / (chip.flops * chip.used)
    if method == "implicit m = 1":
        explicit = sum(la.parameters for la in network.layers if not la.is_gram)
        seconds += PASSES * BYTES * explicit * examples / chip.bandwidth
    return seconds


def step_seconds(
    network: Network, method: str, examples: int, data: int, fsdp: int, chip: Chip
) -> float:
    """Of a step: passes one after the other, exchange behind computing where it can be.

    Weights are gathered while the layers before them compute; the gradient of a layer
    is reduced while the layers below it are differentiated.

    Args:
      examples: of a chip.
    """
    compute = compute_seconds(network, method, examples, chip)
    sent = traffic(network.parameters, method, data, fsdp)
    total, passes = 0.0, len(sent.reduced)
    for gathered, scattered, reduced in zip(*sent, strict=True):
        forward = compute / passes / 3
        gather = gather_seconds(gathered / 2, fsdp, chip)
        exchange = gather_seconds(scattered, fsdp, chip)
        exchange += all_reduce_seconds(reduced, data, chip, apart=fsdp)
        total += max(forward, gather) + max(2 * forward, gather + exchange)
    return total


class Memory(NamedTuple):
    """Bytes on one chip. state: weights and moments. gradient: of the descent.
    perturbed: a second set of weights. activations: of its examples. implicit: the
    signals of pass 1, kept for pass 2, and the largest explicit layer, K by N for every
    example.
    """

    state: float
    gradient: float
    perturbed: float
    activations: float
    implicit: float

    @property
    def total(self) -> float:
        return sum(self)


def memory(network: Network, method: str, fsdp: int) -> Memory:
    """What a step needs on one chip."""
    whole = BYTES * network.parameters / fsdp
    implicit = 0.0
    if method == "implicit m = 1":
        rows = sum(
            layer.times * layer.positions * (layer.inputs + layer.outputs)
            for layer in network.layers
        )
        explicit = [
            BYTES * layer.inputs * layer.outputs
            for layer in network.layers
            if not layer.is_gram
        ]
        implicit = network.examples * (2.0 * rows + max(explicit, default=0))
    return Memory(
        state=(1 + network.moments) * whole,
        gradient=whole,
        perturbed=whole if method in ("SAM", "m-SAM") else 0.0,
        activations=network.activations * network.examples,
        implicit=implicit,
    )


def places(network: Network, chips: int, chip: Chip) -> tuple[int, int] | None:
    """The mesh data x fsdp of a network: the least fsdp with which plain SAM fits into
    the memory of a chip, of 1, a node, two nodes, ...; None if there is none.
    """
    fsdp = 1
    while fsdp <= chips:
        if memory(network, "SAM", fsdp).total <= chip.memory:
            return chips // fsdp, fsdp
        fsdp = max(2 * fsdp, min(chip.node, 8))
    return None
