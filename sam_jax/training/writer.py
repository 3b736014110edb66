"""What a run writes beside its checkpoints: config.json, metrics.jsonl, events; and
what it tells a tracker.
"""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from sam_jax import output
from sam_jax.training import configuration, trackers
from sam_jax.training.errors import TrainingError
from sam_jax.training.key_types import Change
from sam_jax.training.keys import names

Record = dict[str, Any]


def claim(workdir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Makes a work directory this configuration's, or checks that it is.

    Raises: ConfigError that lists the differing keys if the directory belongs to a run
      of another configuration; OSError if it cannot be made or written.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.exists():
        unimportant = names(Change.RESUME)
        differing = [
            line
            for line in configuration.differences(configuration.read(path), config)
            if line.split(":")[0] not in unimportant
        ]
        if differing:
            raise configuration.ConfigError(
                f"{workdir} belongs to a run of another config "
                f"({'; '.join(differing)}); choose another --workdir, or delete it."
            )
    output.write_json(path, config)


def claim_data(workdir: str | os.PathLike[str], checksum: int) -> None:
    """Notes in data.json which data a run is on, or checks that they are the same.

    Some are not the same on every machine, such as a folder of text.

    Raises: ConfigError for others than those the run was started on.
    """
    path = pathlib.Path(workdir) / "data.json"
    if path.exists():
        started = json.loads(path.read_text(encoding="utf-8"))["checksum"]
        if started != checksum:
            raise configuration.ConfigError(
                f"{workdir} belongs to a run on other data: their checksum was "
                f"{started}, and is {checksum} now. Go on with the files it was "
                "started on, or choose another --workdir."
            )
    output.write_json(path, {"checksum": checksum})


class Writer:
    """Appends records to metrics.jsonl and to TensorBoard's event file, and gives
    them to a tracker.

    Only the first process of several writes; the others hold a writer that is silent.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        epoch: int,
        *,
        active: bool,
        last: Mapping[str, Any] | None = None,
        tracker: str = "",
    ):
        """Opens both files for the records after `epoch`.

        Records after it belong to a part of the run that is about to be repeated: they
        are cut off, as is a line torn by a kill.

        Args:
          last: the record of `epoch` as its checkpoint holds it: it stands in where the
            file has lost it. None before the first epoch.
          tracker: one of `trackers.TRACKERS`; "" for none.

        Raises: TrainingError unless the records are those of epochs 1 to `epoch`.
        """
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        self._events: Any = None
        self._tracker: trackers.Tracker | None = None
        self.history = [r for r in read_records(self.path) if r["epoch"] <= epoch]
        if last is not None and len(self.history) == epoch - 1:
            self.history.append(dict(last))
        found = [r["epoch"] for r in self.history]
        if found != list(range(1, epoch + 1)):
            raise TrainingError(
                f"{self.path} has records of epochs {_ranges(found)}, where the "
                f"checkpoint has seen epochs 1 to {epoch}; put the file back, or "
                "delete the work directory to start again."
            )
        if active:
            self._open(workdir, tracker)

    def _open(self, workdir: str | os.PathLike[str], tracker: str) -> None:
        from tensorboardX import SummaryWriter  # late: not needed to start

        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        output.write_atomic(self.path, lambda file: file.write(lines.encode()))
        step = self.history[-1]["step"] if self.history else 0
        self._events = SummaryWriter(str(workdir), purge_step=step + 1)
        if tracker:
            config = json.loads((pathlib.Path(workdir) / "config.json").read_text())
            self._tracker = trackers.start(tracker, workdir, config)

    def write(self, record: Record) -> None:
        """Adds the record of an epoch; it is on the disk when this returns."""
        output.refuse_non_finite(record)
        self.history.append(record)
        if self._events is None:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        values = {k: v for k, v in record.items() if k not in ("epoch", "step")}
        for name, value in values.items():
            self._events.add_scalar(name, value, record["step"])
        if self._tracker is not None:
            self._track(values, record["step"])

    def _track(self, values: Mapping[str, float], step: int) -> None:
        """A tracker that fails ends no run: it is said, and the run goes on without."""
        assert self._tracker is not None
        try:
            self._tracker.log(values, step)
        except Exception as error:  # every package has errors of its own
            said = f"The tracker is given up: {trackers.told(error)}"
            print(said, file=sys.stderr)
            self._tracker = None

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._tracker is not None:
            self._tracker.close()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a metrics.jsonl, without a last line torn by a kill."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not (isinstance(record, dict) and isinstance(record.get("epoch"), int)):
            raise TrainingError(
                f"{path} has the line {line[:60]!r}, which is no record of an epoch; "
                "put the file back, or delete the work directory to start again."
            )
        records.append(record)
    return records


def _ranges(epochs: list[int]) -> str:
    """[1, 2, 3, 5] -> "1-3, 5"; "none" for none."""
    runs: list[list[int]] = []
    for epoch in epochs:
        if runs and epoch == runs[-1][-1] + 1:
            runs[-1].append(epoch)
        else:
            runs.append([epoch])
    words = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs]
    return ", ".join(words) or "none"
