"""Several runs as one program: `vmap` over what differs between them.

Small networks leave an accelerator idle; ten of them at once take hardly longer than
one. Runs of a fleet share their traced steps and their number of steps, and differ in
seed (data order, noise, initial weights) and coefficients (rho, learning rate, l2).
Each has its own work directory, as it would have alone: it can be resumed alone, too.

On CPU it pays for dense networks only: convolutions with other weights for every run
become grouped ones, which are slow there.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.training import (
    configuration,
    epochs,
    lock,
    loop,
    parallel,
    saving,
    summary,
    writer,
)
from sam_jax.training.configuration import Config
from sam_jax.training.errors import NonFiniteLoss
from sam_jax.training.examples import Examples
from sam_jax.training.interruption import NOTHING, Requests
from sam_jax.training.key_types import Change
from sam_jax.training.keys import names
from sam_jax.training.state import State
from sam_jax.training.step import Coefficients


@dataclasses.dataclass
class Member:
    """A run of the fleet: where it writes, and why it has stopped, if it has."""

    run: loop.Run
    records: writer.Writer
    saver: saving.Saver
    failure: NonFiniteLoss | None = None


def likeness(config: Config) -> tuple:
    """Equal for runs that can be one fleet: every other key than those of
    `Change.MEMBER`, and its value; and the seed, where it decides which examples there
    are.

    The data, and so the number of steps, are the same where these are.
    """
    checked = configuration.check(config)
    values = configuration.without(checked, Change.MEMBER)
    if checked.data.train_examples:
        values["seed"] = checked.seed
    return tuple(sorted((name, repr(value)) for name, value in values.items()))


def fits(planned: Sequence[tuple[Config, pathlib.Path]]) -> bool:
    """Whether (config, work directory) can be one fleet, before anything is prepared:
    several, of one likeness, on one device, and all at their start.
    """
    first, _ = planned[0]
    return (
        len(planned) > 1
        and first.parallel.kind == "pmap"
        and parallel.layout(first.devices).count == 1
        and not configuration.ascends_on_own_batch(first.sam.kind)
        and first.data.feed == "memory"
        and len({likeness(config) for config, _ in planned}) == 1
        and not any((workdir / "checkpoints").exists() for _, workdir in planned)
    )


def prepare(planned: Sequence[tuple[Config, pathlib.Path]]) -> list[loop.Run]:
    """Prepares the runs of a fleet; their images are on the device once for all.

    Raises: ValueError as `loop.prepare` for what is wrong with one of them.
    """
    runs: list[loop.Run] = []
    for config, workdir in planned:
        runs.append(loop.prepare(config, workdir, like=runs[0] if runs else None))
    return runs


def train(runs: Sequence[loop.Run]) -> list[dict[str, Any] | NonFiniteLoss]:
    """Trains all runs of a fleet to their last epoch, as `loop.train` does one.

    A loss that is not finite stops that run alone.

    Returns: summaries, in order; for a run that was stopped, the error.
    Raises: ValueError for runs that do not fit together.
    """
    if not fits([(run.config, run.workdir) for run in runs]):
        allowed = ", ".join(sorted(names(Change.MEMBER)))
        raise ValueError(
            f"Received runs that are no fleet; they may differ in {allowed} alone, on "
            "one device, from their start. Train them one after another."
        )
    first, start = runs[0], time.monotonic()
    state = _stack([run.setup.initial_state() for run in runs])
    held = [run.setup.examples for run in runs]
    in_memory = [each for each in held if isinstance(each, Examples)]
    given = jnp.stack([each.given for each in in_memory])
    examples = in_memory[0]._replace(given=given)
    steps = _mapped_steps(first)
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(Requests(first.setup.layout))
        members = [_open(run, stack) for run in runs]
        for epoch in range(first.config.epochs):
            state, measured = _epoch(runs, steps, state, examples, epoch)
            request = asked.read(asked.share())
            ends = request != NOTHING
            for i, member in enumerate(members):
                if member.failure is None:
                    one = jax.tree.map(lambda x, i=i: x[i], state)
                    rows = [
                        {n: float(x[i]) for n, x in row.items()} for row in measured
                    ]
                    seconds = time.monotonic() - start
                    member.failure = _finish_epoch(member, one, rows, seconds, ends)
            if ends and not asked.hand_on(request):
                raise loop.interrupted(first, request, epoch + 1, 0)
        return [
            m.failure or summary.write(m.run.workdir, m.run.label, m.records.history)
            for m in members
        ]


def _mapped_steps(run: loop.Run) -> tuple:
    """The plain and the ascent step over all runs; the latter None without ascent."""
    setup = run.setup
    axes: Any = dict.fromkeys(Examples._fields)
    # Of the examples only the given labels differ, by seed and noise.
    labels: Any = Examples(**{**axes, "given": 0})
    return tuple(
        None if step is None else jax.jit(jax.vmap(step, in_axes=(0, labels, 0, 0)))
        for step in (setup.plain_step, setup.ascent_step)
    )


def _epoch(
    runs: Sequence[loop.Run], steps: tuple, state: State, examples: Examples, epoch: int
) -> tuple[State, list[dict[str, np.ndarray]]]:
    """One pass of every run; measured values by name, f[runs], of every step."""
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
    return state, jax.device_get(measured)


def _open(run: loop.Run, stack: contextlib.ExitStack) -> Member:
    stack.enter_context(lock.held(run.workdir))
    saver = saving.Saver(run.config, run.workdir, run.setup.layout)
    records = writer.Writer(run.workdir, 0, active=True)
    return Member(run, stack.enter_context(records), stack.enter_context(saver))


def _finish_epoch(
    member: Member,
    state: State,
    rows: list[dict[str, float]],
    seconds: float,
    ends: bool,
) -> NonFiniteLoss | None:
    """Evaluates, records and saves one run; returns why it cannot go on.

    Args:
      rows: what its steps have measured. ends: whether it is saved whatever is due.
    """
    run, epoch = member.run, len(member.records.history)
    try:
        for step, row in enumerate(rows, start=epoch * run.setup.epoch_steps):
            loop.refuse_non_finite(run, row, step)
        record = epochs.record(run.config, run.setup, epoch, rows)
        if saving.is_due(epoch, run.config.eval.every_epochs, run.config.epochs):
            record |= loop.evaluate(run, state, epoch)
    except NonFiniteLoss as error:
        return error
    record["seconds"] = seconds
    member.records.write(record)
    member.saver.after_epoch(state, member.records.history, always=ends)
    return None


def _stack(states: Sequence[State]) -> State:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
