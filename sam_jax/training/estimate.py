"""What a run will take: steps, parameters, memory and time, by a few of its steps."""

import dataclasses
import itertools
import os
import time
from typing import Any

import jax
import numpy as np

from sam_jax import output
from sam_jax.training import epochs, loop
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.loop import Run
from sam_jax.training.progress import duration
from sam_jax.training.setup import Step

TIMED, WARM = 5, 2  # steps that are timed, after those that are not


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of a whole run, from its first step on.

    steps, ascents: of the run, and how many of them ascend.
    parameters: of the network. examples: that it trains on.
    state_bytes, peak_bytes: on one device, of weights and optimiser, and of the step
      with all it needs at once; None where the backend does not say.
    step_seconds, plain_seconds: of a step with ascent, and of one without; None where
      the run has none. evaluation_seconds: of an evaluation. Compiled before.
    """

    steps: int
    ascents: int
    evaluations: int
    parameters: int
    examples: int
    state_bytes: int
    peak_bytes: int | None
    step_seconds: float | None
    plain_seconds: float | None
    evaluation_seconds: float

    @property
    def seconds(self) -> float:
        """Of the whole run, without compilation and checkpoints."""
        ascending = self.ascents * (self.step_seconds or 0.0)
        plain = (self.steps - self.ascents) * (self.plain_seconds or 0.0)
        return ascending + plain + self.evaluations * self.evaluation_seconds

    def table(self) -> str:
        """A line each."""
        rows = [
            ["steps", f"{self.steps:,}, of which {self.ascents:,} ascend"],
            ["parameters", f"{self.parameters:,}"],
            ["training examples", f"{self.examples:,}"],
            ["memory of weights and optimiser", _size(self.state_bytes)],
            ["memory of a step in all", _size(self.peak_bytes)],
            ["time of a step with ascent", _milliseconds(self.step_seconds)],
            ["time of a step without", _milliseconds(self.plain_seconds)],
            ["time of an evaluation", _milliseconds(self.evaluation_seconds)],
            ["the whole run", f"about {duration(self.seconds)}, without compilation"],
        ]
        return output.table(["on one device", "estimate"], rows)


def estimate(run: Run) -> Estimate:
    """Compiles the steps of a run and times a few; nothing is written.

    Raises: ConfigError for a step that needs more memory than there is here.
    """
    setup, config = run.setup, run.config
    state = setup.layout.place(setup.initial_state())
    total = config.epochs * setup.epoch_steps
    ascents = 0
    if setup.ascent_step is not None:
        chosen = (
            epochs.uses_ascent(config.sam, step // setup.epoch_steps, step)
            for step in range(total)
        )
        ascents = sum(chosen)
    sizes = jax.tree.leaves(jax.eval_shape(setup.initial_state).params)
    state_bytes = sum(x.addressable_data(0).nbytes for x in jax.tree.leaves(state))
    ascent_step = setup.ascent_step if ascents else None
    plain_step = setup.plain_step if ascents < total else None
    peak = _peak(run, ascent_step or setup.plain_step, state)
    _refuse_beyond_memory(peak)
    evaluation = _evaluation_seconds(run, state)
    step_seconds, state = _step_seconds(run, ascent_step, state)
    plain_seconds, state = _step_seconds(run, plain_step, state)
    return Estimate(
        steps=total,
        ascents=ascents,
        evaluations=evaluations(config),
        parameters=sum(int(np.prod(leaf.shape)) for leaf in sizes),
        examples=len(setup.train),
        state_bytes=state_bytes,
        peak_bytes=peak,
        step_seconds=step_seconds,
        plain_seconds=plain_seconds,
        evaluation_seconds=evaluation,
    )


def evaluations(config: Config, begin: int = 0) -> int:
    """How many evaluations a run has after its first `begin` epochs."""
    every = config.eval.every_epochs
    count = -(-config.epochs // every) - begin // every
    return count if begin < config.epochs else 0


def seconds(run: Run) -> tuple[float, float]:
    """Of a step, with ascent where the run has any, the median; and of an evaluation.

    Raises: ConfigError for a step that needs more memory than there is here.
    """
    setup = run.setup
    state = setup.layout.place(setup.initial_state())
    step = setup.ascent_step or setup.plain_step
    _refuse_beyond_memory(_peak(run, step, state))
    evaluation = _evaluation_seconds(run, state)
    found, _ = _step_seconds(run, step, state)
    assert found is not None
    return found, evaluation


def _step_seconds(run: Run, step: Step | None, state: Any) -> tuple[float | None, Any]:
    """The median, and the state after those steps: a step takes over its memory."""
    if step is None:
        return None, state
    setup, found = run.setup, []
    given = jax.tree.map(lambda values: values[-1], setup.coefficients)
    batches = itertools.cycle(epochs.feed(run.config, setup, 0))
    for examples, batch in itertools.islice(batches, WARM + TIMED):
        start = time.perf_counter()
        spread = setup.layout.spread(given)
        state, measured = step(state, examples, spread, *batch)
        jax.block_until_ready((state, measured))
        found.append(time.perf_counter() - start)
    return float(np.median(found[WARM:])), state


def _evaluation_seconds(run: Run, state: Any) -> float:
    """Of the second of two, since the first one compiles; of the average as well, where
    the run keeps one.
    """
    taken = 0.0
    for _ in range(2):
        start = time.perf_counter()
        loop.evaluate(run, state, 0)
        taken = time.perf_counter() - start
    return taken


def _peak(run: Run, step: Any, state: Any) -> int | None:
    """What the compiler says that the step needs at once, with data and state."""
    setup = run.setup
    given = jax.tree.map(lambda values: values[0], setup.coefficients)
    examples, batch = next(epochs.feed(run.config, setup, 0))
    lowered = step.lower(state, examples, setup.layout.spread(given), *batch)
    found = lowered.compile().memory_analysis()
    if found is None:
        return None
    held = found.argument_size_in_bytes + found.output_size_in_bytes
    return int(held + found.temp_size_in_bytes - found.alias_size_in_bytes)


def _refuse_beyond_memory(peak: int | None) -> None:
    """Raises ConfigError if a step needs more than the device has in all."""
    has = _memory()
    if peak is not None and has is not None and peak > has:
        raise ConfigError(
            f"A step needs {_size(peak)} at once, and there are {_size(has)} here, so "
            "that it cannot be timed. Lower batch_size, model.width or sam.chunk, or "
            "ask on a larger machine."
        )


def _memory() -> int | None:
    """Bytes of one device; of a CPU those of the machine. None if it does not say."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")


def _size(count: int | None) -> str:
    """In MiB; the backend may not say."""
    return "not known here" if count is None else f"{count / 2**20:,.1f} MiB"


def _milliseconds(seconds: float | None) -> str:
    return "none" if seconds is None else f"{1000 * seconds:,.1f} ms"
