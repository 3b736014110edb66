"""A grid of runs: planned by an experiment, trained once, read from their folders.

The work directory of a run has the name of its key, and is all that is kept of it.
"""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from sam_jax import output
from sam_jax.training import configuration, writer
from sam_jax.training.errors import TrainingError

Key = tuple[Any, ...]
FAILURE = "failure.json"


class Trial(NamedTuple):
    """A choice among values, by runs that are trained before it.

    runs: the keys of every value's. figure: of their summaries; the value with the
    least mean is chosen, the first of equals. value: the one that is tried, by place.
    """

    runs: tuple[tuple[Key, ...], ...]
    figure: str
    value: int

    def chosen(self, trained: Mapping[Key, "TrainedRun"]) -> bool:
        """Whether the choice falls on this value."""
        figures = [[trained[key].figure(self.figure) for key in k] for k in self.runs]
        return int(np.mean(figures, 1).argmin()) == self.value


class Measurement(NamedTuple):
    """What is measured of a run's last weights where it was trained, and kept in its
    folder, since they need not be there for ever.

    file: its name. measure: (folder, **options) -> JSON values.
    """

    file: str
    measure: Callable
    options: Mapping[str, Any]

    def kept(self, workdir: pathlib.Path) -> Any:
        """What was measured with these options; None if that was not."""
        path, options = workdir / self.file, json.loads(json.dumps(dict(self.options)))
        saved = json.loads(path.read_text()) if path.exists() else {}
        return saved["found"] if saved.get("options") == options else None

    def of(self, workdir: pathlib.Path) -> Any:
        """What was measured, or is now.

        Raises: TrainingError if it cannot be.
        """
        if (found := self.kept(workdir)) is None:
            try:
                found = self.measure(workdir, **self.options)
                saved = {"options": dict(self.options), "found": found}
                output.write_json(workdir / self.file, saved)
            except (ValueError, OSError, jax.errors.JaxRuntimeError) as error:
                raise TrainingError(
                    f"{workdir} is trained, but its {self.file} cannot be made: {error}"
                ) from error
        return found


class PlannedRun(NamedTuple):
    """config: of the run. parent, epoch: the run it goes on from, and from where.
    trial: without which it is trained; with one, if the choice falls on its value.
    average: whether it goes on from the moving average of the parent's weights.
    then: what is measured of it; without that it is not finished.
    """

    config: ConfigDict
    parent: Key | None = None
    epoch: int = 0
    trial: Trial | None = None
    average: bool = False
    then: Measurement | None = None

    @property
    def share(self) -> float:
        """Of such runs, how many are trained."""
        return 1 / len(self.trial.runs) if self.trial else 1.0


class TrainedRun(NamedTuple):
    """A finished run, or one whose loss ceased to be finite.

    summary: as in summary.json; {} for a run that failed. history: record by epoch.
    """

    workdir: pathlib.Path
    summary: dict[str, Any]
    history: list[dict[str, Any]]

    def figure(self, name: str) -> float:
        """A figure of the summary, such as "test_error_best"; `worst` if it failed."""
        if not self.summary:
            return worst(name)
        if name not in self.summary:
            known = ", ".join(sorted(self.summary))
            raise ValueError(f"{self.workdir} has no figure {name!r}; it has {known}.")
        return self.summary[name]

    def curve(self, name: str) -> np.ndarray:
        """A figure over the evaluated epochs, f[evaluations]."""
        return np.array([r[name] for r in self.history if name in r])


def worst(name: str) -> float:
    """What a failed run has of a figure: the greatest error there is, or the bits per
    byte of uniform guesses. Selection by validation never takes it.
    """
    return 8.0 if "bits_per_byte" in name else 1.0


def finished(planned: PlannedRun, workdir: pathlib.Path) -> TrainedRun | None:
    """The result of an earlier call, None if there is none yet.

    Raises: ConfigError if it is that of another configuration.
    """
    ends = [workdir / file for file in ("summary.json", FAILURE)]
    if not any(end.exists() for end in ends):
        return None
    writer.claim(workdir, configuration.plain(configuration.check(planned.config)))
    return read(workdir) if measured(planned, workdir) else None


def measured(planned: PlannedRun, workdir: pathlib.Path) -> bool:
    """Whether nothing is left to measure of a run that has ended, or has failed."""
    return (
        planned.then is None
        or not (workdir / "summary.json").exists()
        or planned.then.kept(workdir) is not None
    )


def unfinished(
    planned: Mapping[Key, PlannedRun], folder: pathlib.Path
) -> dict[Key, PlannedRun]:
    """Those that no earlier call has finished.

    Raises: ConfigError as `finished`.
    """
    return {
        key: plan
        for key, plan in planned.items()
        if finished(plan, folder / folder_name(key)) is None
    }


def read(workdir: pathlib.Path) -> TrainedRun:
    """What a run has left in its folder."""
    history = writer.read_records(workdir / "metrics.jsonl")
    path = workdir / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    return TrainedRun(workdir, summary, history)


def folder_name(key: Key) -> str:
    """The place of a run among the others: ("sam", 0.1, 3) -> "sam/0.1/3"."""
    return "/".join(map(str, key))


def describe(trained: TrainedRun) -> str:
    """Errors in a line."""
    if not trained.summary:
        return "loss not finite"
    figures = {"validation": "validation_error_best", "test": "test_error_best"}
    figures["last"] = "test_error_last"
    known = {k: trained.summary.get(f) for k, f in figures.items()}
    return ", ".join(f"{k} {output.percent(v)}" for k, v in known.items())


def combinations(axes: Mapping[str, Sequence[Any]]) -> Iterable[dict[str, Any]]:
    """Every combination of values, the last axis fastest: {"sam.rho": .1, "seed": 0}"""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with some keys changed: {"sam.rho": .1}."""
    copy = config.copy_and_resolve_references()
    for key in changes:
        configuration.check_key(key)
    copy.update_from_flattened_dict(changes)
    return copy


def variants(*names: str) -> str:
    """Names of a recipe's variants, joined as it takes them; empty ones left out."""
    return ",".join(filter(None, names))


def table(
    trained: Mapping[Key, TrainedRun], figure: str, *axes: Iterable
) -> np.ndarray:
    """One figure of the runs whose keys are the product of `axes`, f[axes...]."""
    axes = tuple(list(axis) for axis in axes)
    values = [trained[key].figure(figure) for key in itertools.product(*axes)]
    return np.array(values).reshape([len(axis) for axis in axes])
