"""Trains on several devices and processes, for test_parallel.

Arguments: file to write the final parameters to; for several processes also
coordinator, process id, process count.
"""

import functools
import json
import os
import pathlib
import sys
import tempfile

import flax.linen as nn
import jax
import numpy as np

from sam_jax import losses
from sam_jax.training import (
    checkpoint,
    configuration,
    loop,
    parallel,
    problem,
    state,
    step,
)
from sam_jax.training.examples import Examples
from tests.training.problems import tiny

BATCH, STEPS = 8, 3
# An average, a gradient alone, and a choice among the examples of all devices.
KINDS = ("friendly_sam", "dp_sat", "esam")


class Net(nn.Module):
    """Dense layers, with BatchNorm over the devices of a group, or without."""

    normalized: bool
    axis_name: str | None = None
    axis_index_groups: tuple | None = None
    hidden: int = 4
    classes: int = 3

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(self.hidden)(images.reshape(len(images), -1))
        if self.normalized:
            x = nn.BatchNorm(
                not train,
                momentum=0.9,
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
            )(x)
        return nn.Dense(self.classes)(jax.numpy.tanh(x))


def unmapped_step(config, module, optimizer, layout):
    """The training step of one device, without augmentation and average."""
    return functools.partial(
        step.train_step,
        module=module,
        loss=losses.cross_entropy,
        take_gradient=problem.create_gradient(config),
        optimizer=optimizer,
        ema_decay=0.0,
        augment=lambda keys, images: images,
        axis_name=layout.axis_name,
    )


def steps(m, devices, kind="sam"):
    """Three steps by the step function; BatchNorm wherever it is defined."""
    random = np.random.default_rng(0)
    images = random.normal(size=(BATCH, 1, 1, 5))
    labels = random.integers(0, 3, BATCH).astype(np.int32)
    examples = Examples(images, labels, labels, np.zeros(5), np.ones(5))
    own = 0 if kind != "sam" else m
    config = configuration.check(tiny(sam__kind=kind, sam__m=own, batch_size=BATCH))
    layout = parallel.layout(devices)
    optimizer = state.make_optimizer(config.optimizer)
    net = functools.partial(Net, normalized=m > 1)
    variables = net().init(jax.random.key(1), images[:2], train=False)
    variables = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    now = state.State(
        variables["params"],
        variables.get("batch_stats", {}),
        optimizer.init(variables["params"]),
        None,
        jax.random.key_data(jax.random.key(0)),
        np.zeros((), np.int32),
        problem.create_variant_state(config, variables["params"]),
    )
    module = net(**step.normalization_axes(m, BATCH, layout.count))
    take = layout.map(unmapped_step(config, module, optimizer, layout))
    now, examples = layout.replicate((now, examples))
    coefficients = step.Coefficients(np.array(0.1), np.array(0.5), np.array(0.01))
    indices = layout.split(np.arange(BATCH, dtype=np.int32))
    for _ in range(STEPS):
        now, _ = take(now, examples, layout.spread(coefficients), indices)
    return layout.fetch((now.params, now.batch_stats))


def whole_run(devices, directory, attacked=False):
    """An epoch by the loop: augmentation, evaluation, checkpoint and all; on attacked
    images SumMax with the pairing term."""
    config = tiny(epochs=1, devices=devices, batch_size=BATCH, ema__decay=0.5)
    config.sam.kind, config.sam.m = "sam", 4
    if attacked:
        config.sam.kind, config.sam.m = "sum_max", 2
        config.attack.update(kind="adversarial", eps=0.1, steps=2, eval_steps=2)
        config.pairing.update(weight=0.5, start=0.0)
    config.data.augment.crop_padding = 1
    config.data.validation_fraction = 0.9
    run = loop.prepare(config, directory)
    result = loop.train(run, silent=True)
    with checkpoint.Checkpoints(run.workdir / "checkpoints") as checkpoints:
        saved = checkpoints.restore()
    figures = {k: v for k, v in result.items() if k.endswith(("_last", "_best"))}
    return saved.state, figures


def runs(directory):
    """(name, devices, function) for every m on every number of devices."""
    several = jax.process_count() > 1
    for devices in [jax.device_count()] if several else [1, 2, 4]:
        for m in (1, 2, 4, BATCH):
            yield f"steps with m={m}", devices, functools.partial(steps, m, devices)
        for kind in KINDS:
            function = functools.partial(steps, BATCH, devices, kind)
            yield f"steps of {kind}", devices, function
        for name in ("run", "attacked run"):
            workdir, attacked = directory / name / str(devices), name != "run"
            run = functools.partial(whole_run, devices, workdir, attacked)
            yield name, devices, run


def main(out, coordinator="", process_id="0", process_count="1"):
    jax.config.update("jax_enable_x64", True)
    parallel.connect(coordinator, int(process_id), int(process_count))
    shared = os.environ.get("SHARED") or tempfile.mkdtemp()
    received = {}
    for name, devices, run in runs(pathlib.Path(shared)):
        leaves = jax.tree_util.tree_leaves_with_path(run())
        received[f"{name} on {devices}"] = {
            jax.tree_util.keystr(path): np.asarray(leaf).tolist()
            for path, leaf in leaves
        }
    pathlib.Path(out).write_text(json.dumps(received))


if __name__ == "__main__":
    main(*sys.argv[1:])
