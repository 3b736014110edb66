"""Checkpoints: written whole or not at all, checked when read, oldest thrown away.

A checkpoint is the training state as a flat dictionary of arrays with a checksum, and
a record of where the run is. It is written in the background while training goes on.
Reading falls back from a damaged checkpoint to the one before.
"""

import contextlib
import copy
import functools
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sam_jax.training import flat_state, parallel
from sam_jax.training.errors import CheckpointError, OtherRun

# (name, shape) of an array -> how it is sharded, or None for an array on the host.
Shardings = Callable[[str, tuple[int, ...]], jax.sharding.Sharding | None]


def on_host(name: str, shape: tuple[int, ...]) -> None:
    """Every array as NumPy's."""
    del name, shape


class Saved(NamedTuple):
    """number: of the epoch, or step. state: name -> array. record: as it was given."""

    number: int
    state: flat_state.Arrays
    record: dict[str, Any]


class Preserved:
    """Orbax's question which checkpoints stay: the newest of those that were due, the
    best, and the newest of all.
    """

    def __init__(self, keep: int, is_due: Callable[[int], bool]):
        """keep: newest due checkpoints that stay; `best`: number of one more, if any.
        is_due: of a number; others were written for the best epoch, or at an end.
        """
        self.keep, self.is_due = keep, is_due
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list:
        """Whether each of them stays; they come in the order of their numbers."""
        numbers = [checkpoint.step for checkpoint in checkpoints]
        due = [number for number in numbers if self.is_due(number)]
        stay = {*due[-self.keep :], self.best, *numbers[-1:]}
        return [number in stay for number in numbers]


class Checkpoints:
    """The checkpoints of one run, by the number of epochs finished, or of steps."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 1,
        read_only: bool = False,
        run: str | None = None,
        unit: str = "epoch",
        is_due: Callable[[int], bool] = lambda _: True,
    ):
        """Touches nothing yet.

        Args:
          keep: newest checkpoints kept, of those that are due.
          read_only: change nothing in the directory, as in another run's.
          run: `config.fingerprint` of the run, kept in every checkpoint, and asked of
            every one that is read; None to read those of any run.
          unit: what they are numbered by, for messages.
          is_due: whether the checkpoint of a number is one of those that are asked for.
        """
        self._run, self._unit = run, unit
        self.directory = pathlib.Path(directory).absolute()
        self._preserved, self._read_only = Preserved(keep, is_due), read_only
        self._written = 0  # the number of the one that was written last

    @functools.cached_property
    def _manager(self) -> Any:
        # Imported late: orbax takes a second that the first step need not wait for.
        import orbax.checkpoint as ocp

        with _quiet():  # it warns that what is read only is read only
            return ocp.CheckpointManager(
                self.directory,
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "record": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=self._preserved,
                    enable_async_checkpointing=True,
                    read_only=self._read_only,
                ),
            )

    def save(
        self,
        number: int,
        state: flat_state.Arrays,
        record: Mapping[str, Any],
        best: int | None = None,
    ) -> None:
        """Begins to write a checkpoint, once the one before it is on the disk.

        Args:
          state: arrays that nobody changes any more.
          best: number of the checkpoint that is kept as well as the newest ones.

        Raises: CheckpointError if the disk does not take it, or did not take the one
          before it; earlier ones stay.
        """
        from orbax.checkpoint import args

        note = {
            "record": copy.deepcopy(dict(record)),  # training goes on meanwhile
            **_proof(state),
            self._unit: number,
            "run": self._run,
        }
        items = args.Composite(
            state=args.StandardSave(state), record=args.JsonSave(note)
        )
        self.wait()
        self._preserved.best, self._written = best, number
        with self._refused():
            self._manager.save(number, args=items, force=True)

    def wait(self) -> None:
        """Returns when the checkpoint that is being written is on the disk.

        Raises: CheckpointError if the disk does not take it; earlier ones stay.
        """
        if "_manager" in self.__dict__:
            with self._refused():
                self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except Exception as error:  # orbax and tensorstore raise all kinds
            raise CheckpointError(
                f"The checkpoint of {self._unit} {self._written} could not be written "
                f"to {self.directory}: {_first_line(error)}. Earlier checkpoints are "
                "intact: make room, then run the same command again to go on."
            ) from error

    def restore(
        self, needed: bool = True, shardings: Shardings = on_host
    ) -> Saved | None:
        """The newest checkpoint that is whole, or None if there is none at all.

        A damaged one is set aside as damaged-NUMBER, and said so on stderr.

        Args:
          needed: False where a run can do without these checkpoints.
          shardings: of the arrays, whatever they were when the checkpoint was written.

        Raises: CheckpointError if there are checkpoints, needed, and all are damaged.
        """
        numbers = self.numbers()[::-1]
        for number in numbers:
            try:
                with _quiet():
                    return self._read(number, shardings)
            except OtherRun:
                raise
            except Exception as error:  # whatever a damaged file leads to
                self._set_aside(number, error)
        if numbers and needed:
            raise CheckpointError(
                f"All checkpoints in {self.directory} are damaged; delete the work "
                "directory to start again."
            )
        return None

    def numbers(self) -> list[int]:
        """The numbers of the checkpoints there are, ascending."""
        return sorted(self._manager.all_steps()) if self.directory.exists() else []

    def read(self, number: int) -> Saved:
        """The checkpoint of one number.

        Raises: CheckpointError if there is none, or if it is damaged.
        """
        if number not in self.numbers():
            raise CheckpointError(
                f"{self.directory} has no checkpoint of {self._unit} {number}; it has "
                f"{', '.join(map(str, self.numbers())) or 'none'}. Train with "
                "checkpoint.every_epochs and checkpoint.keep that leave it there."
            )
        try:
            with _quiet():
                return self._read(number)
        except OtherRun:
            raise
        except Exception as error:
            raise CheckpointError(
                f"The checkpoint of {self._unit} {number} in {self.directory} is "
                f"damaged ({_first_line(error)}); train again, or read another one."
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if "_manager" in self.__dict__:
            # An error that is on its way is the one to tell of.
            with contextlib.suppress(*([] if kind is None else [CheckpointError])):
                self.wait()
            with self._refused():
                self._manager.close()

    def _read(self, number: int, shardings: Shardings = on_host) -> Saved:
        from orbax.checkpoint import args

        self.wait()
        like = {
            name: _target(array, shardings(name, tuple(array.shape)))
            for name, array in self._manager.item_metadata(number).state.items()
        }
        items = self._manager.restore(
            number,
            args=args.Composite(
                state=args.StandardRestore(like), record=args.JsonRestore()
            ),
        )
        state = dict(items.state)
        proof = {k: v for k, v in items.record.items() if k in PROOFS}
        if not proof or any(PROOFS[k](state) != v for k, v in proof.items()):
            raise ValueError("the checksum does not match")
        # Checkpoints of version 0.1.0 do not say whose they are.
        if (other := items.record.get(self._unit, number)) != number:
            raise ValueError(f"it is that of {self._unit} {other}")
        owner = items.record.get("run")
        if None not in (owner, self._run) and owner != self._run:
            raise OtherRun(
                f"The checkpoint of {self._unit} {number} in {self.directory} is that "
                "of a run with another configuration; put config.json and checkpoints "
                "of one run there, or delete the work directory to start again."
            )
        return Saved(number, state, items.record["record"])

    def _set_aside(self, number: int, error: Exception) -> None:
        print(
            f"The checkpoint of {self._unit} {number} in {self.directory} is damaged "
            f"({_first_line(error)}); falling back to the one before.",
            file=sys.stderr,
        )
        if self._read_only:
            return
        parallel.wait_for_all(f"read_{number}")
        if jax.process_index() == 0:
            aside = self.directory / f"damaged-{number}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(self.directory / str(number), aside)
        parallel.wait_for_all(f"set_aside_{number}")
        self._manager.reload()


# What a checkpoint may say of the bytes in it. A state on the host has a checksum, one
# on devices, of which a process may not have the whole, a digest.
PROOFS: dict[str, Callable[[flat_state.Arrays], int]] = {
    "checksum": flat_state.checksum,
    "digest": flat_state.digest,
}


def _proof(state: flat_state.Arrays) -> dict[str, int]:
    on_devices = any(isinstance(leaf, jax.Array) for leaf in state.values())
    kind = "digest" if on_devices else "checksum"
    return {kind: PROOFS[kind](state)}


def _target(array: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """What tells orbax how an array is wanted."""
    if sharding is None:
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)  # takes no room
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
