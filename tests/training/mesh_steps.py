"""Steps of every variant on meshes of devices: the tables of test_sharded."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from sam_jax import models
from sam_jax.training import (
    configuration,
    consistency,
    parallel,
    problem,
    sharded,
    state,
    step,
)
from sam_jax.training.examples import Examples
from sam_jax.transforms import VARIANTS
from tests.training.devices import Net, unmapped_step
from tests.training.problems import tiny

BATCH = 16


class Sizes(NamedTuple):
    """Of a batch, and of a network of two layers."""

    batch: int = BATCH
    pixels: int = 8
    hidden: int = 8
    classes: int = 4


SMALL = Sizes()

# A case: kind, m (0 for the variant's own), network. sum_max and sam_direction of m = 1
# are implicit, the others of m = 1 hold the perturbed weights of all groups.
TABLE = [
    *((kind, 0, "dense") for kind in ("erm", "sam", "asam", "gsam", "sam_direction")),
    *((kind, 1, "dense") for kind in ("sam", "sam_direction", "sum_max")),
    *((kind, 8, "dense") for kind in ("sam", "asam", "gsam", "sum_max")),
    ("sam", 4, "normalized"),
    ("sam", 4, "convolutions"),
    ("sum_max", 1, "convolutions"),
]
# On 1, 2, 4 and 8 devices; a group of 8 lies on four of eight.
TABLE_MESHES = [(1, 1, 1), (2, 1, 1), (2, 2, 1), (8, 1, 1), (2, 2, 2)]
PROCESS_MESHES = [(4, 1, 1), (2, 2, 1), (1, 2, 2)]
# One for every way of mapping a step: over "data" alone, with "fsdp" or "tensor"
# inside, and left to the compiler with one axis and with three.
KINDS_OF_MESHES = [(8, 1, 1), (4, 2, 1), (4, 1, 2), (1, 1, 2), (2, 2, 2)]


# What some variants do not go without.
OPTIONS = {
    "imb_sam": {"sam__tail": (1,)},
    "focal_sam": {"sam__counts": (5, 4, 4, 3)},
}
SWAPS = ("sam_direction", "sam_derivative")


def other_cases():
    """Those of every variant that are not in TABLE."""
    found = [
        *((kind, 0, "dense") for kind in VARIANTS),
        *((kind, m, "dense") for kind in ("sam", "sum_max") for m in (2, 4)),
        *((kind, 1, "dense") for kind in ("asam", "gsam")),
        *((kind, m, "dense") for kind in SWAPS for m in (2, 4, 8)),
        ("sam_derivative", 1, "dense"),
        *(("sam", m, "normalized") for m in (2, 8, 16)),
        ("sum_max", 4, "normalized"),
        ("erm", 0, "convolutions"),
        ("sam", 2, "convolutions"),
    ]
    # saf needs outputs of earlier epochs, and no run keeps them.
    return [case for case in found if case not in TABLE and case[0] != "saf"]


def on_mesh(shape, min_size=4, rules=()):
    count = int(np.prod(shape))
    return sharded.layout(count, *shape, min_size, rules)


def network(name, sizes, **axes):
    """A network of two dense layers, with or without BatchNorm, or of convolutions."""
    if name == "convolutions":
        return models.ConvNet(sizes.classes, (4, 4), hidden=sizes.hidden)
    return Net(name == "normalized", **axes, hidden=sizes.hidden, classes=sizes.classes)


def image_shape(name, sizes):
    return (8, 8, 1) if name == "convolutions" else (1, 1, sizes.pixels)


@functools.cache
def beginning(name, optimizer, sizes):
    net = network(name, sizes)
    images = np.zeros((2, *image_shape(name, sizes)))
    variables = jax.jit(functools.partial(net.init, train=False))(
        jax.random.key(1), images
    )
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    return state.State(
        variables["params"],
        variables.get("batch_stats", {}),
        jax.tree.map(np.asarray, optimizer.init(variables["params"])),
        None,
        np.asarray(jax.random.key_data(jax.random.key(0))),
        np.zeros((), np.int32),
    )


def examples(name, sizes):
    random = np.random.default_rng(0)
    shape = image_shape(name, sizes)
    images = random.normal(size=(sizes.batch, *shape))
    labels = random.integers(0, sizes.classes, sizes.batch).astype(np.int32)
    means = np.zeros(shape[-1])
    return Examples(images, labels, labels, means, means + 1)


OPTIMIZER = state.make_optimizer(configuration.check(tiny()).optimizer)


def mapped_step(kind, m, name, layout, sizes=SMALL):
    """The compiled step, and the arguments of the first one."""
    changes = {"sam__kind": kind, "sam__m": m, **OPTIONS.get(kind, {})}
    config = configuration.check(tiny(**changes, batch_size=sizes.batch))
    problem.check_batches(config, layout)
    axes = step.normalization_axes(
        consistency.group_size(config), sizes.batch, layout.width
    )
    take = unmapped_step(config, network(name, sizes, **axes), OPTIMIZER, layout)
    given = step.Coefficients(np.array(0.1), np.array(0.5), np.array(0.01))
    order = np.arange(sizes.batch, dtype=np.int32)
    own = consistency.ascends_on_own_batch(kind)
    first = beginning(name, OPTIMIZER, sizes)
    variant = problem.create_variant_state(config, first.params)
    batches = [order, (order + 3) % sizes.batch] if own else [order]
    return layout.map(take, rows=(3, 4), donate=(0,)), (
        layout.place(first._replace(variant=variant)),
        layout.replicate(examples(name, sizes)),
        layout.spread(given),
        *map(layout.split, batches),
    )


def flat(tree):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def three_steps(kind, m, name, layout):
    """The state and figures after three steps, as one vector."""
    take, (now, *given) = mapped_step(kind, m, name, layout)
    for _ in range(3):
        now, measured = take(now, *given)
    return flat(layout.fetch((now, measured)))


def equalities(cases, meshes):
    """Every case on every mesh."""
    for case in cases:
        for shape in meshes:
            yield f"{case} on {shape}", three_steps(*case, on_mesh(shape))


def on_one_device(cases):
    """What the others are compared with: the step without a mesh."""
    layout = parallel.Layout(1, tuple(jax.local_devices()[:1]))
    return {f"{case}": three_steps(*case, layout) for case in cases}
