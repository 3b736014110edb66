"""Several runs as one program: `vmap` over what differs between them.

Small networks leave an accelerator idle; ten of them at once take hardly longer than
one. Runs of a fleet share their traced steps and their number of steps, and differ in
seed (data order, noise, initial weights) and coefficients (rho, learning rate, l2).
Each has its own work directory, as it would have alone: it can be resumed alone, too.

On CPU it pays for dense networks only. On an accelerator the convolutions of our own
networks are batched matrix products here, since grouped ones are computed one by one.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.training import (
    checkpoint,
    configuration,
    consistency,
    epochs,
    fleet_evaluation,
    lock,
    loop,
    parallel,
    saving,
    summary,
    writer,
)
from sam_jax.training.configuration import Config
from sam_jax.training.errors import NonFiniteLoss, TrainingError
from sam_jax.training.examples import Examples
from sam_jax.training.interruption import NOTHING, Requests
from sam_jax.training.key_types import Change
from sam_jax.training.keys import names
from sam_jax.training.state import State
from sam_jax.training.step import Coefficients


@dataclasses.dataclass
class Member:
    """A run of the fleet: where it writes, its share of the seconds, and why it has
    stopped, if it has.
    """

    run: loop.Run
    records: writer.Writer
    saver: saving.Saver
    seconds: float
    failure: NonFiniteLoss | None = None


def likeness(config: Config) -> tuple:
    """Equal for runs that can be one fleet: every other key than those of
    `Change.MEMBER`, and its value.

    The number of examples, and so of steps, are the same where these are.
    """
    values = configuration.without(configuration.check(config), Change.MEMBER)
    return tuple(sorted((name, repr(value)) for name, value in values.items()))


def fits(planned: Sequence[tuple[Config, pathlib.Path]]) -> bool:
    """Whether (config, work directory) can be one fleet, before anything is prepared:
    several, of one likeness, on one device, and all after the same epoch.
    """
    first, _ = planned[0]
    come_to = {progress(workdir) for _, workdir in planned}
    return (
        len(planned) > 1
        and first.parallel.kind == "pmap"
        and parallel.layout(first.devices).count == 1
        and not consistency.ascends_on_own_batch(first.sam.kind)
        and first.data.feed == "memory"
        and len({likeness(config) for config, _ in planned}) == 1
        and len(come_to) == 1
        and None not in come_to
    )


def progress(workdir: pathlib.Path) -> int | None:
    """The epoch of a run's newest checkpoint, 0 for none; None in the midst of one."""
    if (workdir / "unfinished").exists():
        return None
    directory = workdir / "checkpoints"
    with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
        return max(checkpoints.numbers(), default=0)


def prepare(planned: Sequence[tuple[Config, pathlib.Path]]) -> list[loop.Run]:
    """Prepares the runs of a fleet; their images are on the device once for all, or
    where the seed chooses which, once for all runs of that seed.

    Raises: ValueError as `loop.prepare` for what is wrong with one of them.
    """
    runs: list[loop.Run] = []
    first: dict[int, loop.Run] = {}
    for config, workdir in planned:
        images = config.seed if config.data.train_examples else 0
        runs.append(loop.prepare(config, workdir, like=first.get(images)))
        first.setdefault(images, runs[-1])
    return runs


def train(
    runs: Sequence[loop.Run],
    on_failure: Callable[[loop.Run, NonFiniteLoss], None] = lambda *_: None,
) -> list[dict[str, Any] | NonFiniteLoss]:
    """Trains all runs of a fleet to their last epoch, as `loop.train` does one.

    A loss that is not finite stops that run alone. A signal ends the fleet after the
    epoch that it comes in, which is saved.

    Args:
      on_failure: is told of a run that is stopped, at once.

    Returns: summaries, in order; for a run that was stopped, the error.
    Raises: ValueError for runs that do not fit together; TrainingError for some that
      have come to another epoch, since a checkpoint of theirs was damaged.
    """
    if not fits([(run.config, run.workdir) for run in runs]):
        allowed = ", ".join(sorted(names(Change.MEMBER)))
        raise ValueError(
            f"Received runs that are no fleet; they may differ in {allowed} alone, on "
            "one device, after the same epoch. Train them one after another."
        )
    first, config = runs[0], runs[0].config
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(Requests(first.setup.layout))
        members, began, state = _open(runs, stack)
        examples, axes = _examples(runs)
        steps = _mapped_steps(first, axes)
        evaluate = fleet_evaluation.Evaluators(runs, axes)
        for epoch in range(began, config.epochs):
            alive = [i for i, member in enumerate(members) if member.failure is None]
            if not alive:
                break
            start = time.monotonic()
            state, measured = _epoch(runs, steps, state, examples, epoch)
            due = saving.is_due(epoch, config.eval.every_epochs, config.epochs)
            figures = evaluate(state, examples) if due else [None] * len(runs)
            request = asked.read(asked.share())
            share = (time.monotonic() - start) / len(alive)
            for i in alive:
                member, one = members[i], fleet_evaluation.take(state, i)
                member.seconds += share
                rows, ends = _rows(measured, i), request != NOTHING
                member.failure = _finish_epoch(member, one, rows, figures[i], ends)
                if member.failure is not None:
                    on_failure(member.run, member.failure)
            if request != NOTHING:
                _end(members, asked, request, epoch)
        return [
            m.failure or summary.write(m.run.workdir, m.run.label, m.records.history)
            for m in members
        ]


def _examples(runs: Sequence[loop.Run]) -> tuple[Examples, Examples]:
    """The examples of all runs, and along which axis of theirs the runs lie."""
    everyone = [run.setup.examples for run in runs]
    held = [each for each in everyone if isinstance(each, Examples)]  # in memory
    axes: Any = dict.fromkeys(Examples._fields)
    # The given labels differ by seed and noise; the images where the seed chooses them.
    differ = ["given"]
    if runs[0].config.data.train_examples:
        differ += ["images", "true"]
    stacked = {name: jnp.stack([getattr(x, name) for x in held]) for name in differ}
    return held[0]._replace(**stacked), Examples(**axes | dict.fromkeys(differ, 0))


def _mapped_steps(run: loop.Run, axes: Examples) -> tuple:
    """The plain and the ascent step over all runs; the latter None without ascent.

    They take over the memory of the states.
    """
    programs = run.setup.many_programs()
    return tuple(
        None
        if step is None
        else jax.jit(jax.vmap(step, in_axes=(0, axes, 0, 0)), donate_argnums=0)
        for step in (programs.plain_step, programs.ascent_step)
    )


def _epoch(
    runs: Sequence[loop.Run], steps: tuple, state: State, examples: Examples, epoch: int
) -> tuple[State, dict[str, np.ndarray]]:
    """One pass of every run; measured values by name, f[steps, runs]."""
    setup, settings, measured = runs[0].setup, runs[0].config.sam, []
    orders = zip(
        *(epochs.batches(run.config, run.setup, epoch) for run in runs), strict=True
    )
    for step, batches in enumerate(orders, start=epoch * setup.epoch_steps):
        ascends = steps[1] is not None and epochs.uses_ascent(settings, epoch, step)
        given = Coefficients(
            *(
                np.array([getattr(run.setup.coefficients, name)[step] for run in runs])
                for name in Coefficients._fields
            )
        )
        indices = np.stack([batch for (batch,) in batches])
        state, new = steps[ascends](state, examples, given, indices)
        measured.append(new)
    fetched = jax.device_get(measured)
    return state, {n: np.stack([row[n] for row in fetched]) for n in fetched[0]}


def _end(members: list[Member], asked: Requests, request: int, epoch: int) -> None:
    """Interrupted, once all is on the disk, unless the request is handed on."""
    for member in members:
        member.saver.wait()
    if not asked.hand_on(request):
        raise loop.interrupted(members[0].run, request, epoch + 1, 0)


def _rows(measured: dict[str, np.ndarray], i: int) -> list[dict[str, float]]:
    """What each step of run i has measured."""
    columns = zip(*(values[:, i].tolist() for values in measured.values()), strict=True)
    return [dict(zip(measured, values, strict=True)) for values in columns]


def _open(
    runs: Sequence[loop.Run], stack: contextlib.ExitStack
) -> tuple[list[Member], int, State]:
    """The runs as members, the epoch after which they go on, and their states."""
    members, starts = [], []
    for run in runs:
        stack.enter_context(lock.held(run.workdir))
        saver = stack.enter_context(
            saving.Saver(run.config, run.workdir, run.setup.layout)
        )
        start = saver.start(run.setup.initial_state)
        records = writer.Writer(
            run.workdir, start.epoch, active=True, last=start.record
        )
        stack.enter_context(records)
        members.append(Member(run, records, saver, start.seconds))
        starts.append(start)
    if len({start.epoch for start in starts}) > 1:
        raise TrainingError(
            "A run of the fleet has come to another epoch than the others, since a "
            "checkpoint of it is damaged. Train them one after another."
        )
    state = fleet_evaluation.stack([start.state for start in starts])
    return members, starts[0].epoch, state


def _finish_epoch(
    member: Member,
    state: State,
    rows: list[dict[str, float]],
    figures: dict[str, float] | None,
    ends: bool,
) -> NonFiniteLoss | None:
    """Records and saves one run; returns why it cannot go on.

    Args:
      rows: what its steps have measured. figures: of its evaluation, None if none was
        due. ends: whether it is saved whatever is due.
    """
    run, epoch = member.run, len(member.records.history)
    try:
        for step, row in enumerate(rows, start=epoch * run.setup.epoch_steps):
            loop.refuse_non_finite(run, row, step)
        record = epochs.record(run.config, run.setup, epoch, rows)
        if figures is not None:
            loop.refuse_non_finite_figures(run, figures, epoch)
            record |= figures
    except NonFiniteLoss as error:
        return error
    record["seconds"] = member.seconds
    member.records.write(record)
    member.saver.after_epoch(state, member.records.history, always=ends)
    return None
