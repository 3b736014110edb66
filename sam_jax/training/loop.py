"""The training loop: it orchestrates what the other modules do.

`prepare` refuses whatever is wrong with a configuration or a work directory; `train`
runs it, from its newest checkpoint if there is one.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from sam_jax import data
from sam_jax.training import checkpoint, lock, parallel, setup, summary, writer
from sam_jax.training import config as configs
from sam_jax.training.config import Config
from sam_jax.training.errors import NonFiniteLoss
from sam_jax.training.progress import Progress
from sam_jax.training.state import State
from sam_jax.training.step import Metrics


@dataclasses.dataclass(frozen=True)
class Run:
    """A checked run: its configuration, where it writes, and its parts."""

    config: Config
    workdir: pathlib.Path
    parts: setup.Parts

    @property
    def label(self) -> str:
        """What the run is called on the terminal and in its picture."""
        return self.config.sam.kind.upper().replace("_", " ")


def run(
    config: Mapping[str, Any] | ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    silent: bool = False,
) -> dict[str, Any]:
    """Prepares and trains a run; returns its summary."""
    return train(prepare(config, workdir), silent=silent)


def prepare(
    config: Mapping[str, Any] | ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    like: Run | None = None,
) -> Run:
    """Checks a configuration, builds its parts, and claims its work directory.

    Args:
      like: another run on the same images, which the two then share.

    Raises: ValueError of one line for whatever is wrong with them; OSError for a
      directory that cannot be written.
    """
    checked = configs.check(config)
    parallel.agree("their configuration", configs.fingerprint(checked))
    parts = setup.build(checked, None if like is None else like.parts)
    writer.claim(workdir, configs.plain(checked))
    return Run(checked, pathlib.Path(workdir), parts)


def train(run: Run, *, silent: bool = False) -> dict[str, Any]:
    """Trains to the last epoch and writes what DIR is to hold.

    Returns: the summary, as in summary.json.
    Raises: Locked if another run is going on there; TrainingError for a loss that is
      not finite and for a disk that does not take a checkpoint; what was saved stays,
      and the same call goes on from there.
    """
    with contextlib.ExitStack() as stack:
        if parallel.is_first_process():
            stack.enter_context(lock.held(run.workdir))
        return _train(run, silent)


def _train(run: Run, silent: bool) -> dict[str, Any]:
    config, parts = run.config, run.parts
    checkpoints = checkpoint.Checkpoints(
        run.workdir / "checkpoints",
        keep=config.checkpoint.keep,
        best=config.checkpoint.best,
        run=configs.fingerprint(config),
    )
    state, saved = _start(run, checkpoints)
    first = 0 if saved is None else saved.epoch
    parallel.agree("the epoch of their newest checkpoint", first)
    start = time.monotonic() - (0 if saved is None else saved.record["seconds"])
    progress = Progress(
        steps=config.epochs * parts.epoch_steps,
        done=first * parts.epoch_steps,
        label=run.label,
        silent=silent or not parallel.is_first_process(),
    )
    records = writer.Writer(
        run.workdir,
        first,
        active=parallel.is_first_process(),
        last=None if saved is None else saved.record,
    )
    with checkpoints, progress, records:
        for epoch in range(first, config.epochs):
            state, record = train_epoch(run, state, epoch, progress)
            if is_due(epoch, config.eval.every_epochs, config.epochs):
                record |= evaluate(run, state, epoch)
            record["seconds"] = time.monotonic() - start
            records.write(record)
            progress.evaluation(epoch + 1, record)
            save_if_due(run, checkpoints, state, records.history)
        history = records.history
    if parallel.is_first_process():
        return summary.write(run.workdir, run.label, history)
    return summary.summarize(history)


def train_epoch(
    run: Run, state: State, epoch: int, progress: Progress
) -> tuple[State, dict[str, Any]]:
    """One pass over the training set.

    Returns: the new state, and the epoch's record: running_loss and running_error are
      means over its steps, each measured on augmented images before the step.
    Raises: NonFiniteLoss.
    """
    parts = run.parts
    measured: list[dict[str, float]] = []

    def settle(step: int, new: Metrics) -> None:
        measured.append(_read(run, step, new))
        progress.step(measured[-1])

    pending: tuple[int, Metrics] | None = None
    for step, batch in enumerate(batches(run, epoch), start=epoch * parts.epoch_steps):
        take_step = parts.plain_step
        if parts.ascent_step is not None and uses_ascent(run.config.sam, epoch, step):
            take_step = parts.ascent_step
        given = jax.tree.map(lambda values, t=step: values[t], parts.coefficients)
        state, new = take_step(
            state, parts.examples, parts.layout.spread(given), *batch
        )
        # The step runs while the host reads what the step before has measured.
        if pending is not None:
            settle(*pending)
        pending = step, new
    assert pending is not None  # an epoch has a step
    settle(*pending)
    rows = {name: np.array([m[name] for m in measured]) for name in measured[0]}
    return state, epoch_record(run, epoch, rows)


def epoch_record(
    run: Run, epoch: int, measured: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """An epoch's record, from what its steps have measured, f[steps] by name."""
    steps = run.parts.epoch_steps
    last = (epoch + 1) * steps - 1
    ascended = run.parts.ascent_step is not None and any(
        uses_ascent(run.config.sam, epoch, step)
        for step in range(epoch * steps, last + 1)
    )
    given = jax.tree.map(lambda values: values[last], run.parts.coefficients)
    means = {
        name: float(np.mean(values, dtype=float)) for name, values in measured.items()
    }
    return {
        "epoch": epoch + 1,
        "step": last + 1,
        "learning_rate": float(given.learning_rate),
        "rho": float(given.rho) if ascended else 0.0,
        "running_loss": means["loss"],
        "running_error": means["error"],
        "gradient_norm": means["gradient_norm"],
        "ascent_norm": means["ascent_norm"],
    }


def save_if_due(
    run: Run,
    checkpoints: checkpoint.Checkpoints,
    state: State,
    history: list[dict[str, Any]],
) -> None:
    """Writes a checkpoint after the epoch of the newest record, if one is due."""
    settings, epoch = run.config.checkpoint, history[-1]["epoch"]
    due = is_due(epoch - 1, settings.every_epochs, run.config.epochs)
    if due or (settings.best and is_best(history)):
        host = checkpoint.flatten(run.parts.layout.fetch(state))
        checkpoints.save(epoch, host, history[-1])


def batches(run: Run, epoch: int) -> Iterator[tuple[np.ndarray, ...]]:
    """An epoch's batches of indices, a function of seed and epoch alone.

    For a variant that ascends on a batch of its own each comes with one, from an order
    of its own.
    """
    config, parts = run.config, run.parts

    def order(**options: bool) -> np.ndarray:
        count, size = len(parts.train), config.batch_size
        chosen = data.epoch_batches(config.seed, epoch, count, size, **options)
        return parts.train[chosen].astype(np.int32)

    streams = [order()]
    if configs.ascends_on_own_batch(config.sam.kind):
        streams.append(order(to_ascend_on=True))
    for batch in zip(*streams, strict=True):
        yield tuple(parts.layout.split(indices) for indices in batch)


def uses_ascent(settings: Config, epoch: int, step: int) -> bool:
    """Whether a step ascends before it descends.

    Chosen here, in Python, between two compiled steps (why: see `sam_jax.ops.loops`).

    Args:
      settings: config.sam.
      epoch, step: counted from 0 over the whole run.
    """
    stop = settings.stop_epoch or math.inf
    active = settings.kind != "erm" and settings.start_epoch <= epoch < stop
    return active and step % settings.every == 0


def evaluate(run: Run, state: State, epoch: int) -> dict[str, float]:
    """Figures of the weights, and with the prefix ema_ of their moving average.

    Raises: NonFiniteLoss.
    """
    parts = run.parts
    figures = parts.evaluate(state.params, state.batch_stats, parts.examples)
    if state.ema_params is not None:
        fresh = parts.fresh_statistics(
            state.ema_params, state.batch_stats, parts.examples
        )
        averaged = parts.evaluate(state.ema_params, fresh, parts.examples)
        figures |= {f"ema_{name}": value for name, value in averaged.items()}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"{name} is {value} after epoch {epoch + 1}. {_advice(run)}"
            )
    return figures


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """Whether something done every so many epochs is done after this one."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs


def is_best(history: list[dict[str, Any]]) -> bool:
    """Whether the newest record has the least validation error, and is the first to.

    The robust one where that is measured.
    """
    criterion = summary.criterion_of(history[-1])
    errors = [r.get(criterion, math.inf) for r in history]
    return errors[-1] < min(errors[:-1], default=math.inf)


def _start(
    run: Run, checkpoints: checkpoint.Checkpoints
) -> tuple[State, checkpoint.Saved | None]:
    """The state to start from, and the checkpoint that it comes from, or None."""
    parts = run.parts
    state, saved = parts.initial_state(), checkpoints.restore()
    if saved is not None:
        state = checkpoint.unflatten(state, saved.state)
    return parts.layout.replicate(state), saved


def _read(run: Run, step: int, new: Metrics) -> dict[str, float]:
    fetched = run.parts.layout.fetch(new)
    measured = {name: float(value) for name, value in fetched.items()}
    refuse_non_finite(run, {k: np.array([v]) for k, v in measured.items()}, step)
    return measured


def refuse_non_finite(run: Run, measured: Mapping[str, np.ndarray], first: int) -> None:
    """NonFiniteLoss that names the step, if something measured is not finite.

    Args:
      measured: name -> values of the steps from `first` on.
    """
    for name in ("loss", "gradient_norm", "ascent_norm"):
        bad = np.flatnonzero(~np.isfinite(measured[name]))
        if len(bad):
            value, step = measured[name][bad[0]], first + bad[0]
            raise NonFiniteLoss(f"{name} is {value} at step {step}. {_advice(run)}")


def _advice(run: Run) -> str:
    return (
        f"Stopped; what {run.workdir} held before stays. Try a smaller schedule.peak "
        "or sam.rho, a warm-up, or optimizer.gradient_clip."
    )
