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

from sam_jax.training import checkpoint, lock, loop, parallel, summary, writer
from sam_jax.training import config as configs
from sam_jax.training.config import Config
from sam_jax.training.errors import NonFiniteLoss
from sam_jax.training.examples import Examples
from sam_jax.training.state import State
from sam_jax.training.step import Coefficients

# What may differ between the members of a fleet: nothing else of a configuration.
MEMBER_KEYS = frozenset(
    {"seed", "l2", "sam.rho", "schedule.peak", "data.noise.fraction"}
)


@dataclasses.dataclass
class Member:
    """A run of the fleet: where it writes, and why it has stopped, if it has."""

    run: loop.Run
    records: writer.Writer
    checkpoints: checkpoint.Checkpoints
    failure: NonFiniteLoss | None = None


def likeness(config: Config) -> tuple:
    """Equal for runs that can be one fleet: every key but MEMBER_KEYS, and its value.

    The data, and so the number of steps, are the same where these are.
    """
    values = configs.flatten(configs.check(config)).items()
    return tuple(sorted((k, repr(v)) for k, v in values if k not in MEMBER_KEYS))


def fits(planned: Sequence[tuple[Config, pathlib.Path]]) -> bool:
    """Whether (config, work directory) can be one fleet, before anything is prepared:
    several, alike but for MEMBER_KEYS, on one device, and all at their start.
    """
    first, _ = planned[0]
    return (
        len(planned) > 1
        and parallel.layout(first.devices).count == 1
        and not configs.ascends_on_own_batch(first.sam.kind)
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
        raise ValueError(
            "Received runs that are no fleet; they may differ in "
            f"{', '.join(sorted(MEMBER_KEYS))} alone, on one device, from their start. "
            "Train them one after another."
        )
    first, start = runs[0], time.monotonic()
    state = _stack([run.parts.initial_state() for run in runs])
    examples = first.parts.examples._replace(
        given=jnp.stack([run.parts.examples.given for run in runs])
    )
    steps = _mapped_steps(first)
    with contextlib.ExitStack() as stack:
        members = [_open(run, stack) for run in runs]
        for epoch in range(first.config.epochs):
            state, measured = _epoch(runs, steps, state, examples, epoch)
            for i, member in enumerate(members):
                if member.failure is None:
                    one = jax.tree.map(lambda x, i=i: x[i], state)
                    rows = {name: values[:, i] for name, values in measured.items()}
                    seconds = time.monotonic() - start
                    member.failure = _finish_epoch(member, one, rows, epoch, seconds)
        return [
            m.failure or summary.write(m.run.workdir, m.run.label, m.records.history)
            for m in members
        ]


def _mapped_steps(run: loop.Run) -> tuple:
    """The plain and the ascent step over all runs; the latter None without ascent."""
    parts = run.parts
    axes: Any = dict.fromkeys(Examples._fields)
    # Of the examples only the given labels differ, by seed and noise.
    labels: Any = Examples(**{**axes, "given": 0})
    return tuple(
        None if step is None else jax.jit(jax.vmap(step, in_axes=(0, labels, 0, 0)))
        for step in (parts.plain_step, parts.ascent_step)
    )


def _epoch(
    runs: Sequence[loop.Run], steps: tuple, state: State, examples: Examples, epoch: int
) -> tuple[State, dict[str, np.ndarray]]:
    """One pass of every run; measured values by name, f[steps, runs]."""
    parts, settings, measured = runs[0].parts, runs[0].config.sam, []
    orders = zip(*(loop.batches(run, epoch) for run in runs), strict=True)
    for step, batches in enumerate(orders, start=epoch * parts.epoch_steps):
        ascends = steps[1] is not None and loop.uses_ascent(settings, epoch, step)
        given = Coefficients(
            *(
                np.array([getattr(run.parts.coefficients, name)[step] for run in runs])
                for name in Coefficients._fields
            )
        )
        indices = np.stack([batch for (batch,) in batches])
        state, new = steps[ascends](state, examples, given, indices)
        measured.append(new)
    fetched = jax.device_get(measured)
    return state, {name: np.array([m[name] for m in fetched]) for name in fetched[0]}


def _open(run: loop.Run, stack: contextlib.ExitStack) -> Member:
    settings = run.config.checkpoint
    stack.enter_context(lock.held(run.workdir))
    checkpoints = checkpoint.Checkpoints(
        run.workdir / "checkpoints",
        keep=settings.keep,
        best=settings.best,
        run=configs.fingerprint(run.config),
    )
    records = writer.Writer(run.workdir, 0, active=True)
    return Member(run, stack.enter_context(records), stack.enter_context(checkpoints))


def _finish_epoch(
    member: Member,
    state: State,
    rows: dict[str, np.ndarray],
    epoch: int,
    seconds: float,
) -> NonFiniteLoss | None:
    """Evaluates, records and saves one run; returns why it cannot go on."""
    run, steps = member.run, member.run.parts.epoch_steps
    try:
        loop.refuse_non_finite(run, rows, epoch * steps)
        record = loop.epoch_record(run, epoch, rows)
        if loop.is_due(epoch, run.config.eval.every_epochs, run.config.epochs):
            record |= loop.evaluate(run, state, epoch)
    except NonFiniteLoss as error:
        return error
    record["seconds"] = seconds
    member.records.write(record)
    loop.save_if_due(run, member.checkpoints, state, member.records.history)
    return None


def _stack(states: Sequence[State]) -> State:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
