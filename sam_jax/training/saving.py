"""What is saved of a run, and where it goes on.

`checkpoints/EPOCH` is the state after an epoch, with the epoch's record. Between two of
them `unfinished/STEP` is the state in the midst of an epoch, with what its steps have
measured so far: the order of the data and every key are functions of the step, so that
a run goes on from there bit for bit.
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from sam_jax.training import checkpoint, configuration, flat_state, parallel, summary
from sam_jax.training.configuration import Config
from sam_jax.training.state import State

Record = dict[str, Any]
Measured = list[dict[str, float]]


class Now(NamedTuple):
    """Where a run is.

    state: on the devices. epoch: epochs finished. measured: of the steps that the next
    epoch has taken. record: of the last finished epoch, None before. seconds: trained.
    """

    state: State
    epoch: int
    measured: Measured
    record: Record | None
    seconds: float


class Saver:
    """The checkpoints of one run; a context that waits for what is being written."""

    def __init__(self, config: Config, workdir: pathlib.Path, layout: parallel.Layout):
        """Touches nothing yet."""
        self._settings, self._epochs = config.checkpoint, config.epochs
        self._layout = layout
        run = configuration.fingerprint(config)
        self._finished = checkpoint.Checkpoints(
            workdir / "checkpoints",
            keep=self._settings.keep,
            run=run,
            is_due=lambda epoch: is_due(
                epoch - 1, config.checkpoint.every_epochs, config.epochs
            ),
        )
        self._within = checkpoint.Checkpoints(
            workdir / "unfinished", run=run, unit="step"
        )

    def start(self, initial: Callable[[], State]) -> Now:
        """The newest state that is whole; the initial one if there is none.

        Raises: CheckpointError as `Checkpoints.restore`.
        """
        shardings = self._layout.sharding
        finished = self._finished.restore(shardings=shardings)
        within = self._within.restore(needed=False, shardings=shardings)
        template: Any = jax.eval_shape(initial)
        start, state = Now(template, 0, [], None, 0.0), None
        if finished is not None:
            state, record = finished.state, finished.record
            start = Now(template, finished.number, [], record, record["seconds"])
        if within is not None and within.record["epoch"] >= start.epoch:
            state = within.state
            start = Now(template, **within.record)
        if state is None:
            return start._replace(state=self._layout.place(initial()))
        state = flat_state.unflatten(template, state)
        return start._replace(state=self._layout.place(state))

    def after_epoch(
        self, state: State, history: list[Record], always: bool = False
    ) -> None:
        """Saves the state after the epoch of the newest record, if that is due."""
        epoch = history[-1]["epoch"]
        chosen = summary.best_record(history) if self._settings.best else None
        best = None if chosen is None else chosen["epoch"]
        due = is_due(epoch - 1, self._settings.every_epochs, self._epochs)
        if due or always or epoch == best:
            kept = self._layout.snapshot(state)
            self._finished.save(epoch, kept, history[-1], best)

    def within_epoch(self, now: Now) -> None:
        """Saves where a run is in the midst of an epoch."""
        state, record = self._layout.snapshot(now.state), now._asdict()
        del record["state"]
        self._within.save(int(state["step"]), state, record)

    def wait(self) -> None:
        """Returns when all that was saved is on the disk.

        Raises: CheckpointError if the disk does not take it.
        """
        self._finished.wait()
        self._within.wait()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and jax.process_count() > 1:
            return  # to write a checkpoint takes all processes, and one may be lost
        self._finished.__exit__(kind, error, trace)
        self._within.__exit__(kind, error, trace)
        if kind is None and parallel.is_first_process():  # trained to its end
            shutil.rmtree(self._within.directory, ignore_errors=True)


def is_due(epoch: int, every: int, epochs: int) -> bool:
    """Whether something done every so many epochs is done after this one."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs
