"""Seconds of a training step of each of several methods, by steps taken in turn."""

import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from sam_jax.training import epochs, loop

TIMED, WARM = 15, 2  # steps of each method; the first ones are not counted


def least(configs: Mapping[str, ConfigDict]) -> dict[str, float]:
    """The least time of a step with ascent, or of a plain one where there is none.

    In turn, so that what else the machine does meets all methods alike.
    """
    ready: dict[str, Any] = {}
    for key, config in configs.items():
        with tempfile.TemporaryDirectory() as folder:
            run = loop.prepare(config, folder)
        setup = run.setup
        step = setup.ascent_step or setup.plain_step
        (batch, *_) = epochs.batches(run.config, setup, 0)
        given = jax.tree.map(lambda values: values[-1], setup.coefficients)
        state = setup.layout.place(setup.initial_state())
        ready[key] = [step, state, setup, given, batch]
    found: dict[str, list[float]] = {key: [] for key in ready}
    for _ in range(TIMED):
        for key, (step, state, setup, given, batch) in ready.items():
            start = time.perf_counter()
            spread = setup.layout.spread(given)
            state, _ = jax.block_until_ready(
                step(state, setup.examples, spread, *batch)
            )
            found[key].append(time.perf_counter() - start)
            ready[key][1] = state
    return {key: min(times[WARM:]) for key, times in found.items()}
