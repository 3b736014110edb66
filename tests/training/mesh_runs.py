"""Trains on meshes of devices, for test_sharded.

Arguments: file to write to, what to run (quick, heavy or processes), folder for
checkpoints; for several processes also coordinator, process id, process count.
"""

import functools
import pathlib
import sys
from typing import NamedTuple

import jax
import numpy as np

from sam_jax import losses
from sam_jax.training import (
    configuration,
    flat_state,
    loop,
    parallel,
    problem,
    saving,
    sharded,
    state,
    step,
)
from sam_jax.training.examples import Examples
from sam_jax.transforms import VARIANTS
from tests.training.devices import Net
from tests.training.problems import tiny

BATCH = 16


class Sizes(NamedTuple):
    """Of a batch, and of a network of two layers."""

    batch: int = BATCH
    pixels: int = 8
    hidden: int = 8
    classes: int = 4


SMALL = Sizes()

ONE = (1, 1, 1)
# What the quick tests look at: kind, m (0 for the variant's own), BatchNorm.
QUICK = [
    ("erm", 0, False),
    ("sam", 0, False),
    ("asam", 0, False),
    ("gsam", 0, False),
    ("sam_direction", 0, False),
    ("sum_max", 1, False),  # implicit
    ("sam", 1, False),  # not
    ("sum_max", 8, False),  # a group on several devices
    ("sam", 4, True),
]
QUICK_MESHES = [(4, 2, 1), (2, 2, 2)]
MESHES = [ONE, (2, 1, 1), (1, 1, 2), (2, 2, 1), (8, 1, 1), (4, 2, 1), (2, 2, 2)]


# What some variants do not go without.
OPTIONS = {
    "imb_sam": {"sam__tail": (1,)},
    "focal_sam": {"sam__counts": (5, 4, 4, 3)},
}


def heavy_cases():
    for kind in ("erm", *VARIANTS):
        if (
            kind != "saf"
        ):  # which needs outputs of earlier epochs, and no run keeps them
            yield kind, 0, False
    for kind in ("sam", "sum_max", "sam_direction", "sam_derivative"):
        for m in (1, 2, 4, 8):
            yield kind, m, False
    for m in (2, 8, 16):
        yield "sam", m, True
    yield "sum_max", 4, True


def on_mesh(shape, min_size=4, rules=()):
    count = int(np.prod(shape))
    return sharded.layout(count, *shape, min_size, rules)


@functools.cache
def beginning(normalized, optimizer, sizes):
    net = Net(normalized, hidden=sizes.hidden, classes=sizes.classes)
    images = np.zeros((2, 1, 1, sizes.pixels))
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


def examples(sizes):
    random = np.random.default_rng(0)
    images = random.normal(size=(sizes.batch, 1, 1, sizes.pixels))
    labels = random.integers(0, sizes.classes, sizes.batch).astype(np.int32)
    means = np.zeros(sizes.pixels)
    return Examples(images, labels, labels, means, means + 1)


OPTIMIZER = state.make_optimizer(configuration.check(tiny()).optimizer)


def mapped_step(kind, m, normalized, layout, sizes=SMALL):
    """The compiled step, and the arguments of the first one."""
    changes = {"sam__kind": kind, "sam__m": m, **OPTIONS.get(kind, {})}
    config = configuration.check(tiny(**changes, batch_size=sizes.batch))
    problem.check_batches(config, layout)
    axes = step.normalization_axes(
        configuration.group_size(config), sizes.batch, layout.width
    )
    take = functools.partial(
        step.train_step,
        module=Net(normalized, **axes, hidden=sizes.hidden, classes=sizes.classes),
        loss=losses.cross_entropy,
        take_gradient=problem.create_gradient(config),
        optimizer=OPTIMIZER,
        ema_decay=0.0,
        augment=lambda keys, images: images,
        axis_name=layout.axis_name,
    )
    given = step.Coefficients(np.array(0.1), np.array(0.5), np.array(0.01))
    order = np.arange(sizes.batch, dtype=np.int32)
    own = configuration.ascends_on_own_batch(kind)
    first = beginning(normalized, OPTIMIZER, sizes)
    variant = problem.create_variant_state(config, first.params)
    batches = [order, (order + 3) % sizes.batch] if own else [order]
    return layout.map(take, rows=(3, 4), donate=(0,)), (
        layout.place(first._replace(variant=variant)),
        layout.replicate(examples(sizes)),
        layout.spread(given),
        *map(layout.split, batches),
    )


def flat(tree):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def three_steps(kind, m, normalized, layout):
    """The state and figures after three steps, as one vector."""
    take, (now, *given) = mapped_step(kind, m, normalized, layout)
    for _ in range(3):
        now, measured = take(now, *given)
    return flat(layout.fetch((now, measured)))


def equalities(cases, meshes):
    reference = parallel.Layout(1, tuple(jax.local_devices()[:1]))
    for case in cases:
        yield f"{case}", three_steps(*case, reference)
        for shape in meshes:
            yield f"{case} on {shape}", three_steps(*case, on_mesh(shape))


def layout_of_results():
    """What a step makes of the arrays it is given: facts, 1 for those that hold."""
    take, (before, *given) = mapped_step("sam", 0, False, on_mesh((2, 2, 2)))
    kernel = before.params["Dense_0"]["kernel"]
    yield "kernel shard", np.array(kernel.addressable_data(0).shape)
    shardings = [leaf.sharding for leaf in jax.tree.leaves(before)]
    after, _ = take(before, *given)
    again, _ = take(after, *given)
    same = [leaf.sharding for leaf in jax.tree.leaves(again)] == shardings
    yield "pinned", np.array(same)
    yield "programs", np.array(take._cache_size())
    gone = [leaf.is_deleted() for leaf in jax.tree.leaves(after.params)]
    yield "donated", np.array(all(gone))
    lowered = take.lower(again, *given)
    yield "reused", np.array(lowered.compile().memory_analysis().alias_size_in_bytes)
    held = sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(again))
    yield "held", np.array(held)


def restored(folder):
    """A state saved on one layout and read on others, to the bit."""
    config = configuration.check(tiny())
    random = np.random.default_rng(3)
    kernel = random.normal(size=(16, 8))
    initial = {"params": {"kernel": kernel, "half": kernel[0].astype(np.float16)}}
    initial |= {"key": np.arange(4, dtype=np.uint32), "step": np.int32(5)}
    layouts = {
        "pmap": parallel.Layout(1, tuple(jax.local_devices()[:1])),
        "8": on_mesh((2, 2, 2)),
        "2": on_mesh((1, 2, 1)),
    }
    for there, written in layouts.items():
        where = folder / there
        with saving.Saver(config, where, written) as saver:
            now = saving.Now(written.place(initial), 0, [{"loss": 1.0}], None, 2.0)
            saver.within_epoch(now)
            saver.wait()
            for here, read in layouts.items():
                start = saving.Saver(config, where, read).start(lambda: initial)
                got = start.state
                equal = jax.tree.map(np.array_equal, read.fetch(got), initial)
                label = f"from {there} to {here}"
                yield label, np.array(all(jax.tree.leaves(equal)))
                placed = read.place(initial)
                alike = jax.tree.map(lambda a, b: a.sharding == b.sharding, got, placed)
                yield f"{label}: sharded", np.array(all(jax.tree.leaves(alike)))


def whole_run(folder, variant, model, mesh):
    """Two epochs by the loop: figures, and the state in its last checkpoint."""
    config = tiny(batch_size=BATCH, ema__decay=0.5, **model)
    config.sam.kind, config.sam.m = variant, 4
    if variant == "sum_max":
        config.attack.update(kind="adversarial", eps=0.1, steps=2, eval_steps=2)
        config.pairing.update(weight=0.5, start=0.0)
    config.parallel.update(mesh)
    run = loop.prepare(config, folder)
    result = loop.train(run, silent=True)
    saver = saving.Saver(run.config, run.workdir, run.setup.layout)
    last = saver.start(run.setup.initial_state)
    figures = {k: v for k, v in result.items() if k.endswith(("_last", "_best"))}
    return flat((run.setup.layout.fetch(last.state), figures))


MODELS = {
    "mlp": {
        "model__name": "mlp",
        "model__widths": (8,),
        "data__augment__crop_padding": 1,
        "data__validation_fraction": 0.9,
    },
    "resnet": {
        "model__name": "preact_resnet18",
        "model__width": 2,
        # One step: BatchNorm of four examples makes roundings a hundred times larger.
        "data__train_examples": 320,
        "data__validation_fraction": 0.94,
        "epochs": 1,
    },
    "gpt": {
        "model__name": "gpt",
        "model__norm": "layer",
        "model__depth": 1,
        "model__width": 8,
        "model__heads": 2,
        "data__name": "text",
        "data__length": 8,
        "data__validation_fraction": 0.5,
    },
}
RUN_MESHES = {
    "data": {"kind": "sharded", "min_size": 16},
    "fsdp": {"kind": "sharded", "min_size": 16, "fsdp": 2},
    "tensor": {"kind": "sharded", "min_size": 16, "fsdp": 2, "tensor": 2},
}


def runs(folder, chosen, models):
    for name in models:
        model = dict(MODELS[name])
        if name == "gpt":
            text = folder / "text"
            text.write_bytes(b"some words of text; " * 130)
            model["data__path"] = str(text)
        # Attacks are on images, and take minutes with BatchNorm.
        for kind in ("sam", "sum_max") if name == "mlp" else ("sam",):
            for label, mesh in {"pmap": {}, **chosen}.items():
                if (name, label) == ("resnet", "tensor"):
                    continue  # XLA has no groups of convolutions there
                where = folder / name / kind / label
                received = whole_run(where, kind, model, mesh)
                yield f"{name} {kind} {label}", received


def main(out, what, folder, coordinator="", process_id="0", process_count="1"):
    jax.config.update("jax_enable_x64", True)
    parallel.connect(coordinator, int(process_id), int(process_count))
    folder = pathlib.Path(folder)
    received = {}
    if what == "quick":
        received |= dict(equalities(QUICK, QUICK_MESHES))
        received |= dict(layout_of_results())
        received |= dict(restored(folder))
        on_host = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, bool)}
        received["digests"] = np.array(
            [
                flat_state.digest(on_host),
                flat_state.digest(
                    flat_state.by_name(on_mesh((1, 2, 1)).place(on_host))
                ),
            ]
        )
    if what == "heavy":
        received |= dict(equalities(heavy_cases(), MESHES))
        received |= dict(runs(folder, RUN_MESHES, MODELS))
    if what == "processes":
        for shape in [(4, 1, 1), (2, 2, 1), (1, 4, 1), (1, 2, 2)]:
            for case in QUICK:
                received[f"{case} on {shape}"] = three_steps(*case, on_mesh(shape))
        received |= dict(runs(folder, RUN_MESHES, ["mlp"]))
    np.savez(out, **received)


if __name__ == "__main__":
    main(*sys.argv[1:])
