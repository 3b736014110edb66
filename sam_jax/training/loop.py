"""The training loop: it orchestrates what the other modules do.

`prepare` refuses whatever is wrong with a configuration or a work directory; `train`
runs it, from its newest checkpoint if there is one.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import signal
import time
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from sam_jax import data
from sam_jax.training import (
    configuration,
    epochs,
    lock,
    own,
    parallel,
    saving,
    summary,
    writer,
)
from sam_jax.training.configuration import Config
from sam_jax.training.errors import Interrupted, NonFiniteLoss, TrainingError
from sam_jax.training.interruption import NOTHING, SAVE, Requests
from sam_jax.training.progress import Progress
from sam_jax.training.setup import Setup, build
from sam_jax.training.state import State
from sam_jax.training.step import Metrics


@dataclasses.dataclass(frozen=True)
class Run:
    """A checked run: its configuration, where it writes, and its setup."""

    config: Config
    workdir: pathlib.Path
    setup: Setup

    @property
    def label(self) -> str:
        """What the run is called on the terminal and in its picture."""
        return self.config.sam.kind.upper().replace("_", " ")


def run(
    config: Mapping[str, Any] | ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    silent: bool = False,
    module: Any = None,
    dataset: data.Dataset | None = None,
) -> dict[str, Any]:
    """Prepares and trains a run; returns its summary.

    Args:
      silent: nothing is printed.
      module: a network in place of config.model's: a flax linen module, or a class or
        function that makes one of num_classes= and config.model.options; called with
        (images, train) -> logits. dataset: data in place of config.data's.
    """
    run = prepare(config, workdir, module=module, dataset=dataset)
    return train(run, silent=silent)


def prepare(
    config: Mapping[str, Any] | ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    like: Run | None = None,
    claim: bool = True,
    module: Any = None,
    dataset: data.Dataset | None = None,
) -> Run:
    """Checks a configuration, builds its setup, and claims its work directory.

    Args:
      like: another run on the same images, which the two then share.
      claim: False for a run that is only looked at: nothing is written.
      module, dataset: as in `run`.

    Raises: ValueError of one line for whatever is wrong with them; OSError for a
      directory that cannot be written.
    """
    values = configuration.flatten(config)
    if module is not None:
        values["model.name"] = own.GIVEN_MODULE
    if dataset is not None:
        values["data.name"] = own.GIVEN_DATA
    checked = configuration.check(configuration.nest(values))
    parallel.agree("their configuration", configuration.fingerprint(checked))
    built = build(checked, None if like is None else like.setup, module, dataset)
    run = Run(checked, pathlib.Path(workdir), built)
    _trace_step(run)
    if claim:
        writer.claim(workdir, configuration.plain(checked))
        writer.claim_data(workdir, built.checksum)
    return run


def _trace_step(run: Run) -> None:
    """Raises ConfigError for a setup of which no step can be made.

    What is traced here need not be traced again for the first step.
    """
    setup = run.setup
    state = setup.layout.shapes(jax.eval_shape(setup.initial_state))
    given = jax.tree.map(lambda values: values[0], setup.coefficients)
    step = setup.ascent_step or setup.plain_step
    examples, batch = next(epochs.feed(run.config, setup, 0))
    try:
        jax.eval_shape(step, state, examples, setup.layout.spread(given), *batch)
    except (ValueError, TrainingError):
        raise
    except Exception as error:  # jax, flax and the user's own code raise all kinds
        raise configuration.ConfigError(
            f"No step can be made of this configuration: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error


def train(run: Run, *, silent: bool = False, tracker: str = "") -> dict[str, Any]:
    """Trains to the last epoch and writes what DIR is to hold.

    Args:
      silent: whether the terminal is told nothing.
      tracker: one of `trackers.TRACKERS` that is given every record, too; "" for none.

    Returns: the summary, as in summary.json.
    Raises: Locked if another run is going on there; TrainingError for a loss that is
      not finite and for a disk that does not take a checkpoint; what was saved stays,
      and the same call goes on from there.
    """
    with contextlib.ExitStack() as stack:
        if parallel.is_first_process():
            stack.enter_context(lock.held(run.workdir))
        try:
            return _train(run, silent, tracker)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            if (ending := _known_end(error)) is None:
                raise
            raise ending from error


def _train(run: Run, silent: bool, tracker: str) -> dict[str, Any]:
    config, setup = run.config, run.setup
    saver = saving.Saver(config, run.workdir, setup.layout)
    start = saver.start(setup.initial_state)
    parallel.agree("what they have saved", f"{start.epoch}, {len(start.measured)}")
    began = time.monotonic() - start.seconds
    asked = Requests(setup.layout, 60 * config.checkpoint.every_minutes)
    progress = Progress(
        steps=config.epochs * setup.epoch_steps,
        done=start.epoch * setup.epoch_steps + len(start.measured),
        label=run.label,
        epoch_steps=setup.epoch_steps,
        silent=silent or not parallel.is_first_process(),
    )
    records = writer.Writer(
        run.workdir,
        start.epoch,
        active=parallel.is_first_process(),
        last=start.record,
        tracker=tracker,
    )
    state, measured = start.state, start.measured
    with asked, saver, progress, records:
        for epoch in range(start.epoch, config.epochs):
            while True:
                state, request = take_steps(
                    run, state, epoch, measured, asked, progress
                )
                if request == NOTHING:
                    break
                last = records.history[-1] if epoch else None
                seconds = time.monotonic() - began
                saver.within_epoch(saving.Now(state, epoch, measured, last, seconds))
                asked.saved()
                if request != SAVE:
                    saver.wait()
                    if not asked.hand_on(request):
                        raise interrupted(run, request, epoch, len(measured))
            record = epochs.record(config, setup, epoch, measured)
            if saving.is_due(epoch, config.eval.every_epochs, config.epochs):
                record |= evaluate(run, state, epoch)
            record["seconds"] = time.monotonic() - began
            records.write(record)
            progress.evaluation(epoch + 1, record)
            saver.after_epoch(state, records.history)
            measured = []
        history = records.history
    if parallel.is_first_process():
        return summary.write(run.workdir, run.label, history)
    return summary.summarize(history)


def take_steps(
    run: Run,
    state: State,
    epoch: int,
    measured: list[dict[str, float]],
    asked: Requests,
    progress: Progress,
) -> tuple[State, int]:
    """Takes the steps of an epoch that are left, until something is asked for.

    Args:
      measured: of the steps that the epoch has taken; those taken here are added.

    Returns: the new state, and the request, NOTHING at the end of the epoch.
    Raises: NonFiniteLoss.
    """
    setup, request = run.setup, NOTHING
    pending: tuple[int, Metrics, Any] | None = None

    def settle(step: int, new: Metrics, shared: Any) -> int:
        measured.append(_read(run, step, new))
        progress.step(measured[-1])
        return asked.read(shared)

    left = epochs.feed(run.config, setup, epoch, start=len(measured))
    first = epoch * setup.epoch_steps + len(measured)
    for step, (examples, batch) in enumerate(left, start=first):
        take_step = setup.plain_step
        if setup.ascent_step is not None and epochs.uses_ascent(
            run.config.sam, epoch, step
        ):
            take_step = setup.ascent_step
        given = jax.tree.map(lambda values, t=step: values[t], setup.coefficients)
        state, new = take_step(state, examples, setup.layout.spread(given), *batch)
        shared = asked.share()
        # The step runs while the host reads what the step before has measured.
        if pending is not None:
            request = settle(*pending)
        pending = step, new, shared
        if request != NOTHING:
            break
    if pending is not None:
        request = max(request, settle(*pending))
    return state, request


def evaluate(run: Run, state: State, epoch: int) -> dict[str, float]:
    """Figures of the weights, and with the prefix ema_ of their moving average.

    Raises: NonFiniteLoss.
    """
    setup = run.setup
    figures = setup.evaluate(state.params, state.batch_stats, setup.examples)
    if state.ema_params is not None:
        fresh = setup.fresh_statistics(
            state.ema_params, state.batch_stats, setup.examples
        )
        averaged = setup.evaluate(state.ema_params, fresh, setup.examples)
        figures |= {f"ema_{name}": value for name, value in averaged.items()}
    refuse_non_finite_figures(run, figures, epoch)
    return figures


def interrupted(run: Run, number: int, epoch: int, steps: int) -> Interrupted:
    """What ends a run that a signal of this number has stopped.

    Args:
      epoch, steps: finished epochs, and steps taken since.
    """
    step = epoch * run.setup.epoch_steps + steps
    return Interrupted(
        number,
        f"Ended by {signal.Signals(number).name} after step {step} of "
        f"{run.config.epochs * run.setup.epoch_steps}, which is saved in "
        f"{run.workdir}; the same command goes on from there.",
        together=True,
    )


def _read(run: Run, step: int, new: Metrics) -> dict[str, float]:
    fetched = run.setup.layout.fetch(new)
    measured = {name: float(value) for name, value in fetched.items()}
    refuse_non_finite(run, measured, step)
    return measured


def refuse_non_finite(run: Run, measured: Mapping[str, float], step: int) -> None:
    """NonFiniteLoss that names the step, if something measured is not finite."""
    for name in ("loss", "gradient_norm", "ascent_norm"):
        if not math.isfinite(measured[name]):
            raise NonFiniteLoss(
                f"{name} is {measured[name]} at step {step}. {_advice(run)}"
            )


def refuse_non_finite_figures(
    run: Run, figures: Mapping[str, float], epoch: int
) -> None:
    """NonFiniteLoss that names the epoch, if a figure is not finite."""
    for name, value in figures.items():
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"{name} is {value} after epoch {epoch + 1}. {_advice(run)}"
            )


def _known_end(error: Exception) -> TrainingError | None:
    """What an error of the machine means in a line; None for any other."""
    first = str(error).strip().splitlines()[0]
    if parallel.is_loss_of_process(error):
        return TrainingError(
            f"Another process of this run cannot be reached ({first}). What was saved "
            "stays: start all processes again."
        )
    if "RESOURCE_EXHAUSTED" in first:
        return TrainingError(
            f"Out of memory ({first}). Lower sam.chunk or batch_size, eval.batch_size, "
            "or model.width; a smaller sam.chunk changes no result."
        )
    return None


def _advice(run: Run) -> str:
    return (
        f"Stopped; what {run.workdir} held before stays. Try a smaller schedule.peak "
        "or sam.rho, a warm-up, or optimizer.gradient_clip."
    )
