"""Trains on meshes of devices, for test_sharded.

Arguments: file to write to, what to run (a name in PARTS), folder for checkpoints; for
several processes also coordinator, process id, process count.
"""

import functools
import gc
import pathlib
import sys

import jax
import numpy as np

from sam_jax import models
from sam_jax.training import configuration, flat_state, loop, parallel, saving
from tests.training import mesh_steps
from tests.training.mesh_steps import BATCH, flat, on_mesh
from tests.training.problems import tiny


def layout_of_results():
    """What a step makes of the arrays it is given: facts, 1 for those that hold."""
    take, (before, *given) = mesh_steps.mapped_step(
        "sam", 0, "dense", on_mesh((2, 2, 2))
    )
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


def digests():
    """Of the same state on the host and in parts on two devices."""
    on_host = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, bool)}
    there = flat_state.by_name(on_mesh((1, 2, 1)).place(on_host))
    return np.array([flat_state.digest(on_host), flat_state.digest(there)])


def whole_run(folder, variant, name, model, mesh):
    """Two epochs by the loop: figures, and the state in its last checkpoint."""
    config = tiny(batch_size=BATCH, ema__decay=0.5, **model)
    config.sam.kind, config.sam.m = variant, 4
    if variant == "sum_max":
        config.attack.update(kind="adversarial", eps=0.1, steps=2, eval_steps=2)
        config.pairing.update(weight=0.5, start=0.0)
    config.parallel.update(mesh)
    run = loop.prepare(config, folder, module=MODULES.get(name))
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
# Two blocks: a plain one, and one that halves the image.
MODULES = {
    "resnet": functools.partial(models.PreActResNet, stage_sizes=(1, 1), width=2)
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
                where = folder / name / kind / label
                received = whole_run(where, kind, name, model, mesh)
                yield f"{name} {kind} {label}", received


def table(folder):
    yield from mesh_steps.on_one_device(mesh_steps.TABLE).items()
    yield from mesh_steps.equalities(mesh_steps.TABLE, mesh_steps.TABLE_MESHES)
    yield from layout_of_results()
    yield from restored(folder)
    yield "digests", digests()


def variants(folder):
    cases = mesh_steps.other_cases()
    yield from mesh_steps.on_one_device(cases).items()
    yield from mesh_steps.equalities(cases, mesh_steps.KINDS_OF_MESHES)


def processes(folder):
    yield from mesh_steps.equalities(mesh_steps.TABLE, mesh_steps.PROCESS_MESHES)


PARTS = {
    "table": table,
    "variants": variants,
    "runs": lambda folder: runs(folder, RUN_MESHES, MODELS),
    "processes": processes,
    "runs of processes": lambda folder: runs(folder, RUN_MESHES, ["mlp"]),
}


def main(out, what, folder, coordinator="", process_id="0", process_count="1"):
    gc.set_threshold(100_000, 20, 50)  # see tests/conftest.py
    jax.config.update("jax_enable_x64", True)
    parallel.connect(coordinator, int(process_id), int(process_count))
    np.savez(out, **dict(PARTS[what](pathlib.Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
