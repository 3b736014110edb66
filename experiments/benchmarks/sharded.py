"""What a mesh costs where it is not needed: sharded training on one device."""

import tempfile
from typing import Any

import jax

from configs import digits
from experiments.benchmarks import rows, timing
from sam_jax.training import epochs, loop

GOAL = 1.03
# Rounds, and what differs from the recipe.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "MLP 64-512-512-10": (60, {"name": "mlp", "widths": (512, 512)}),
    "ResNet-18 w16 8x8": (20, {"name": "preact_resnet18", "width": 16}),
}


def against_plain() -> list[rows.Row]:
    """A SAM step of parallel.kind="sharded" on one device over that of "pmap" there,
    which is a plain jitted step: <= 1.03."""
    measured = []
    for name, (rounds, model) in NETWORKS.items():
        calls = {kind: training_step(kind, model) for kind in ("sharded", "pmap")}
        timings = timing.alternate(calls, rounds=rounds)
        measured.append(
            rows.compare(
                f"sharded / plain SAM step, one device, {name}, batch 128",
                timings,
                *calls,
                goal=GOAL,
            )
        )
    return measured


def training_step(kind: str, model: dict[str, Any]):
    """A call that takes a step of the training loop from wherever it has got to."""
    config = digits.get_config("sam")
    config.devices, config.parallel.kind = 1, kind
    config.model.update(model)
    config.batch_size = 128
    run = loop.prepare(config, tempfile.gettempdir(), claim=False)
    setup = run.setup
    carried = [setup.layout.place(setup.initial_state())]
    given = jax.tree.map(lambda values: values[-1], setup.coefficients)
    batches = list(epochs.batches(run.config, setup, 0))
    assert setup.ascent_step is not None
    step, taken = setup.ascent_step, [0]

    def call():
        batch = batches[taken[0] % len(batches)]
        spread = setup.layout.spread(given)
        carried[0], figures = step(carried[0], setup.examples, spread, *batch)
        taken[0] += 1
        return figures

    return call
