"""Work directories of earlier runs: read again, or gone on from under another name."""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from sam_jax import data, output
from sam_jax.training import (
    checkpoint,
    configuration,
    feeds,
    flat_state,
    setup,
    writer,
)
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.examples import Examples
from sam_jax.training.feeds import Rows, Streamed
from sam_jax.training.state import State

BRANCH = "branch.json"  # where a run that goes on from another began


class Finished(NamedTuple):
    """A run read from its work directory: configuration, setup, and where it lies.

    dataset: what it was given from Python; None for that of its configuration.
    """

    config: Config
    setup: setup.Setup
    workdir: pathlib.Path
    dataset: data.Dataset | None = None

    def epochs(self) -> list[int]:
        """The epochs of its checkpoints, ascending."""
        with self._checkpoints() as checkpoints:
            return checkpoints.numbers()

    def states(self, epochs: list[int]) -> Iterator[State]:
        """The training states after these epochs.

        Raises: CheckpointError where there is no such checkpoint.
        """
        template = self.initial_state()
        with self._checkpoints() as checkpoints:
            for epoch in epochs:
                saved = checkpoints.read(epoch)
                state = flat_state.unflatten(template, saved.state)
                yield jax.tree.map(jnp.asarray, state)

    def feed(self, rows: Iterable[Rows]) -> Iterator[tuple[Examples, Rows]]:
        """For each of these tuples of numbers, examples on the host, and the places of
        those numbers among them. Those of a streamed run are read again.
        """
        found = self.setup.examples
        if not isinstance(found, Streamed):
            found = self.setup.layout.fetch(found)
        return feeds.feed(found, rows)

    def initial_state(self) -> State:
        """The state before step 0."""
        return self.setup.initial_state()

    def _checkpoints(self) -> checkpoint.Checkpoints:
        directory = self.workdir / "checkpoints"
        return checkpoint.Checkpoints(directory, read_only=True)


def read(
    workdir: output.Path, *, module: Any = None, dataset: data.Dataset | None = None
) -> Finished:
    """Reads a run's configuration and builds its setup, its data among them.

    Args:
      module, dataset: what the run was given from Python, as in `training.loop.run`.

    Raises: ConfigError if this is no work directory, or one without a checkpoint.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigError(
            f"{workdir} is no work directory of a run: it holds no config.json. Give "
            "the --workdir of `python -m sam_jax.train`."
        )
    config = configuration.check(on_one_device(configuration.read(path)))
    built = setup.build(config, module=module, dataset=dataset)
    run = Finished(config, built, workdir, dataset)
    if not run.epochs():
        raise ConfigError(
            f"{workdir} holds no checkpoint yet; let its run come to its first one "
            f"(every {config.checkpoint.every_epochs} epochs)."
        )
    return run


def on_one_device(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The configuration of a run, for one device if its parameters were sharded.

    They must fit there, together with their examples.
    """
    if config.parallel.kind == "sharded":
        config.parallel = configuration.base().parallel
        config.devices = 1
    return config


def branch(
    source: output.Path,
    epoch: int,
    config: Mapping[str, Any] | ml_collections.ConfigDict,
    workdir: output.Path,
    *,
    average: bool = False,
) -> None:
    """Makes `workdir` a run of `config` that has come to `epoch` as `source` did.

    The run then resumes from there: ERM -> SAM costs its last epochs only, bit for bit
    as if it had been trained from the start, provided that both configurations are the
    same up to that epoch. A work directory that has checkpoints is left as it is, if it
    began so.

    average: go on from the moving average of the source's weights, not from them. The
    momentum and BatchNorm's statistics are those of the weights, and so are the figures
    of the epochs before; no training from the start is equal to it, so that it may have
    another `schedule` too.

    Raises: ConfigError for configurations that differ in more than keys of `sam` and
      `checkpoint`, or have no moving average to begin with, and for a work directory
      that began otherwise; CheckpointError if the source has no checkpoint of that
      epoch.
    """
    source, workdir = pathlib.Path(source), pathlib.Path(workdir)
    checked = configuration.check(config)
    differing = configuration.differences(
        configuration.read(source / "config.json"), checked
    )
    free = ("sam", "schedule", "checkpoint") if average else ("sam", "checkpoint")
    odd = [d for d in differing if d.partition(".")[0] not in free]
    if odd:
        raise ConfigError(
            f"{workdir} cannot go on from {source}: they differ in {'; '.join(odd)}. "
            "A branch may change keys of sam, from an average of schedule too; to "
            "fine-tune other settings, give init_from."
        )
    if average and not checked.ema.decay:
        raise ConfigError(
            f"{source} keeps no moving average for {workdir} to begin with: ema.decay "
            "is 0. Train it with ema.decay = .999, say."
        )
    writer.claim(workdir, configuration.plain(checked))
    beginning = {"epoch": epoch, "average": average}
    target = workdir / "checkpoints"
    with checkpoint.Checkpoints(target, read_only=True) as there:
        if there.numbers():
            _refuse_other_beginning(workdir, beginning)
            return
    with checkpoint.Checkpoints(source / "checkpoints", read_only=True) as old_run:
        saved = old_run.read(epoch)
    records = writer.read_records(source / "metrics.jsonl")
    kept = [json.dumps(r) + "\n" for r in records if r["epoch"] <= epoch]
    output.write_atomic(
        workdir / "metrics.jsonl", lambda file: file.write("".join(kept).encode())
    )
    output.write_json(workdir / BRANCH, beginning)
    owner, keep = configuration.fingerprint(checked), checked.checkpoint.keep
    with checkpoint.Checkpoints(target, keep=keep, run=owner) as new_run:
        state = _from_average(saved.state) if average else saved.state
        new_run.save(epoch, state, saved.record)


def _refuse_other_beginning(
    workdir: pathlib.Path, beginning: Mapping[str, Any]
) -> None:
    """Raises ConfigError for a run that began otherwise; older ones do not say."""
    path = workdir / BRANCH
    if path.exists() and (noted := json.loads(path.read_text())) != beginning:
        raise ConfigError(
            f"{workdir} began at {noted}, and is asked for {beginning}; give another "
            "folder, or remove this one."
        )


def _from_average(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state whose weights are their moving average."""
    mean = {name: array for name, array in state.items() if name.startswith("ema_")}
    weights = {name.removeprefix("ema_"): array for name, array in mean.items()}
    return {**state, **weights}
