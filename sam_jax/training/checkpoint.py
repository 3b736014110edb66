"""Checkpoints: written whole or not at all, checked when read, oldest thrown away.

A checkpoint is the training state as a flat dictionary of arrays with a checksum, and
the record of its epoch. Reading falls back from a damaged checkpoint to the
one before.
"""

import contextlib
import functools
import logging
import os
import pathlib
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from sam_jax.training import parallel
from sam_jax.training.errors import CheckpointError, OtherRun
from sam_jax.training.summary import criterion_of

Arrays = dict[str, np.ndarray]


class Saved(NamedTuple):
    """epoch: epochs finished. state: name -> array. record: metrics of that epoch."""

    epoch: int
    state: Arrays
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, by the number of epochs finished."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 1,
        best: bool = False,
        read_only: bool = False,
        run: str | None = None,
    ):
        """Touches nothing yet.

        Args:
          keep: newest checkpoints kept.
          best: whether the one of least validation error (the robust one where it is
            measured; the earliest of equals) is kept as well.
          read_only: change nothing in the directory, as in another run's.
          run: `config.fingerprint` of the run, kept in every checkpoint, and asked of
            every one that is read; None to read those of any run.
        """
        self._run = run
        self.directory = pathlib.Path(directory).absolute()
        self._keep, self._best, self._read_only = keep, best, read_only

    @functools.cached_property
    def _manager(self) -> Any:
        # Imported late: orbax takes a second that the first step need not wait for.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policies

        policy: Any = policies.LatestN(self._keep)
        if self._best:
            best = policies.BestN(get_metric_fn=_rank, reverse=True, n=1)
            policy = policies.AnyPreservationPolicy([policy, best])
        with _quiet():  # it warns that what is read only is read only
            return ocp.CheckpointManager(
                self.directory,
                item_names=("state", "record"),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    enable_async_checkpointing=False,
                    read_only=self._read_only,
                ),
            )

    def save(self, epoch: int, state: Arrays, record: Mapping[str, Any]) -> None:
        """Writes a checkpoint.

        Raises: CheckpointError if the disk does not take it; earlier ones stay.
        """
        from orbax.checkpoint import args

        note = {
            "record": dict(record),
            "checksum": checksum(state),
            "epoch": epoch,
            "run": self._run,
        }
        items = args.Composite(
            state=args.StandardSave(state), record=args.JsonSave(note)
        )
        metrics = {"epoch": epoch, "validation_error": record.get(criterion_of(record))}
        try:
            with _quiet():
                self._manager.save(epoch, args=items, metrics=metrics, force=True)
        except Exception as error:  # orbax and tensorstore raise all kinds
            raise CheckpointError(
                f"The checkpoint of epoch {epoch} could not be written to "
                f"{self.directory}: {_first_line(error)}. Earlier checkpoints are "
                "intact: make room, then run the same command again to go on."
            ) from error

    def restore(self) -> Saved | None:
        """The newest checkpoint that is whole, or None if there is none at all.

        A damaged one is set aside as damaged-EPOCH, and said so on stderr.

        Raises: CheckpointError if there are checkpoints and all are damaged.
        """
        if not self.directory.exists():
            return None
        epochs = sorted(self._manager.all_steps(), reverse=True)
        for epoch in epochs:
            try:
                with _quiet():
                    return self._read(epoch)
            except OtherRun:
                raise
            except Exception as error:  # whatever a damaged file leads to
                self._set_aside(epoch, error)
        if epochs:
            raise CheckpointError(
                f"All checkpoints in {self.directory} are damaged; delete the work "
                "directory to start again."
            )
        return None

    def epochs(self) -> list[int]:
        """The epochs of the checkpoints there are, ascending."""
        return sorted(self._manager.all_steps()) if self.directory.exists() else []

    def read(self, epoch: int) -> Saved:
        """The checkpoint of one epoch.

        Raises: CheckpointError if there is none, or if it is damaged.
        """
        if epoch not in self.epochs():
            raise CheckpointError(
                f"{self.directory} has no checkpoint of epoch {epoch}; it has "
                f"{', '.join(map(str, self.epochs())) or 'none'}. Train with "
                "checkpoint.every_epochs and checkpoint.keep that leave it there."
            )
        try:
            with _quiet():
                return self._read(epoch)
        except OtherRun:
            raise
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint of epoch {epoch} in {self.directory} is damaged "
                f"({_first_line(error)}); train again, or read another epoch."
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        if "_manager" in self.__dict__:
            self._manager.close()

    def _read(self, epoch: int) -> Saved:
        from orbax.checkpoint import args

        items = self._manager.restore(
            epoch,
            args=args.Composite(
                state=args.StandardRestore(), record=args.JsonRestore()
            ),
        )
        state = {name: np.asarray(leaf) for name, leaf in items.state.items()}
        if checksum(state) != items.record["checksum"]:
            raise ValueError("the checksum does not match")
        # Checkpoints of version 0.1.0 do not say whose they are.
        if items.record.get("epoch", epoch) != epoch:
            raise ValueError(f"it is that of epoch {items.record['epoch']}")
        owner = items.record.get("run")
        if None not in (owner, self._run) and owner != self._run:
            raise OtherRun(
                f"The checkpoint of epoch {epoch} in {self.directory} is that of a run "
                "with another configuration; put config.json and checkpoints of one "
                "run there, or delete the work directory to start again."
            )
        return Saved(epoch, state, items.record["record"])

    def _set_aside(self, epoch: int, error: Exception) -> None:
        print(
            f"The checkpoint of epoch {epoch} in {self.directory} is damaged "
            f"({_first_line(error)}); falling back to the one before.",
            file=sys.stderr,
        )
        if self._read_only:
            return
        parallel.wait_for_all(f"read_{epoch}")
        if jax.process_index() == 0:
            aside = self.directory / f"damaged-{epoch}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(self.directory / str(epoch), aside)
        parallel.wait_for_all(f"set_aside_{epoch}")
        self._manager.reload()


def flatten(tree: Any) -> Arrays:
    """A tree of arrays as {"params.dense.kernel": array, ...} in host memory."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(template: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Puts arrays of `flatten` back into a tree like `template`.

    Raises: CheckpointError if names, shapes or dtypes are not those of the template.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    names = [_name(path) for path, _ in leaves]
    if set(names) != set(arrays):
        odd = sorted(set(names) ^ set(arrays))
        raise CheckpointError(
            f"The checkpoint and the configured run differ in {', '.join(odd[:4])}; "
            "use the model and optimiser the checkpoint was made with."
        )
    for name, (_, leaf) in zip(names, leaves, strict=True):
        received, expected = arrays[name], jax.eval_shape(lambda x=leaf: x)
        if (received.shape, received.dtype) != (expected.shape, expected.dtype):
            raise CheckpointError(
                f"The checkpoint holds {name} as {received.dtype}{received.shape}, the "
                f"configured run as {expected.dtype}{expected.shape}; use the model "
                "and data the checkpoint was made with."
            )
    return jax.tree.unflatten(structure, [arrays[name] for name in names])


def checksum(arrays: Arrays) -> int:
    """CRC-32 over names, dtypes, shapes and bytes, in the order of the names."""
    total = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        head = f"{name}{array.dtype}{array.shape}".encode()
        total = zlib.crc32(array.view(np.uint8).data, zlib.crc32(head, total))
    return total


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps orbax from logging the traceback of an error that it raises as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _rank(metrics: Mapping[str, Any]) -> tuple[float, int]:
    error = metrics["validation_error"]
    return (np.inf if error is None else error, metrics["epoch"])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
