"""Training the runs of an experiment: each once, in order, and never again.

A cell is one run. Its work directory has the name of its key, and is all that is kept:
the same call reads the finished cells and resumes the one that was interrupted.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from sam_jax import output
from sam_jax.analysis import restore
from sam_jax.training import config as configs
from sam_jax.training import fleet, loop, writer
from sam_jax.training.errors import NonFiniteLoss

Key = tuple[Any, ...]
FAILURE = "failure.json"
FLEET = 16  # runs trained together at most, for memory


class Cell(NamedTuple):
    """config: of the run. parent, epoch: the cell it goes on from, and from where."""

    config: ConfigDict
    parent: Key | None = None
    epoch: int = 0


class Trained(NamedTuple):
    """A finished run, or one whose loss ceased to be finite.

    summary: as in summary.json; {} for a run that failed. history: record by epoch.
    """

    workdir: pathlib.Path
    summary: dict[str, Any]
    history: list[dict[str, Any]]

    def figure(self, name: str) -> float:
        """A figure of the summary, such as "test_error_best"; 1 for a failed run.

        1 is the greatest error there is: selection by validation never takes it.
        """
        if not self.summary:
            return 1.0
        if name not in self.summary:
            known = ", ".join(sorted(self.summary))
            raise ValueError(f"{self.workdir} has no figure {name!r}; it has {known}.")
        return self.summary[name]

    def curve(self, name: str) -> np.ndarray:
        """A figure over the evaluated epochs, f[evaluations]."""
        return np.array([r[name] for r in self.history if name in r])


def train(
    cells: Mapping[Key, Cell],
    folder: output.Path,
    report: Callable[[str], None] = print,
    *,
    together: bool | None = None,
) -> dict[Key, Trained]:
    """Trains every cell that is not finished yet, one after another.

    Args:
      cells: a parent comes before the cells that go on from it.
      report: takes a line for every cell that was trained.
      together: whether cells that differ in seed and coefficients alone are trained as
        one program, FLEET of them at most; None where it pays, on an accelerator.

    Raises: ConfigError for a folder that holds cells of other configurations.
    """
    folder = pathlib.Path(folder)
    trained: dict[Key, Trained] = {}
    if jax.default_backend() != "cpu" if together is None else together:
        train_fleets(cells, folder)
    for number, (key, cell) in enumerate(cells.items(), start=1):
        workdir, start = folder / name(key), time.perf_counter()
        found = finished(cell, workdir)
        if found is not None:
            trained[key] = found
        else:
            if cell.parent is not None:
                source = folder / name(cell.parent)
                restore.branch(source, cell.epoch, cell.config, workdir)
            trained[key] = run(cell.config, workdir)
            seconds = time.perf_counter() - start
            text = describe(trained[key])
            report(f"{number}/{len(cells)} {name(key)}: {text} ({seconds:.0f} s)")
    return trained


def train_fleets(cells: Mapping[Key, Cell], folder: pathlib.Path) -> None:
    """Trains those unfinished cells together that may be, and leaves the others."""
    alike: dict[str, list[loop.Run]] = {}
    for key, cell in cells.items():
        workdir = folder / name(key)
        if cell.parent is None and finished(cell, workdir) is None:
            run = loop.prepare(cell.config, workdir)
            flat = configs.flatten(run.config).items()
            kind = str([(k, v) for k, v in flat if k not in fleet.FREE_KEYS])
            alike.setdefault(kind, []).append(run)
    for runs in alike.values():
        for some in (runs[i : i + FLEET] for i in range(0, len(runs), FLEET)):
            if fleet.fits(some):
                for run, result in zip(some, fleet.train(some), strict=True):
                    if isinstance(result, NonFiniteLoss):
                        output.write_json(run.workdir / FAILURE, str(result))


def run(config: ConfigDict, workdir: output.Path) -> Trained:
    """Trains one cell; a loss that is not finite is a result, too, and is noted."""
    try:
        loop.run(config, workdir, silent=True)
    except NonFiniteLoss as error:
        output.write_json(pathlib.Path(workdir) / FAILURE, str(error))
    return _read(pathlib.Path(workdir))


def finished(cell: Cell, workdir: pathlib.Path) -> Trained | None:
    """The result of an earlier call, None if there is none yet.

    Raises: ConfigError if it is that of another configuration.
    """
    ends = [workdir / file for file in ("summary.json", FAILURE)]
    if not any(end.exists() for end in ends):
        return None
    writer.claim(workdir, configs.plain(configs.check(cell.config)))
    return _read(workdir)


def name(key: Key) -> str:
    """The place of a cell in its folder: ("sam", 0.1, 3) -> "sam/0.1/3"."""
    return "/".join(map(str, key))


def describe(trained: Trained) -> str:
    """Errors in a line."""
    if not trained.summary:
        return "loss not finite"
    figures = {"validation": "validation_error_best", "test": "test_error_best"}
    figures["last"] = "test_error_last"
    known = {k: trained.summary.get(f) for k, f in figures.items()}
    return ", ".join(f"{k} {output.percent(v)}" for k, v in known.items())


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterable[dict[str, Any]]:
    """Every combination of values, the last axis fastest: {"sam.rho": .1, "seed": 0}"""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with some keys changed: {"sam.rho": .1}."""
    copy = config.copy_and_resolve_references()
    for key in changes:
        configs.check_key(key)
    copy.update_from_flattened_dict(changes)
    return copy


def variants(*names: str) -> str:
    """Names of a recipe's variants, joined as it takes them; empty ones left out."""
    return ",".join(filter(None, names))


def table(trained: Mapping[Key, Trained], figure: str, *axes: Iterable) -> np.ndarray:
    """One figure of the cells whose keys are the product of `axes`, f[axes...]."""
    axes = tuple(list(axis) for axis in axes)
    values = [trained[key].figure(figure) for key in itertools.product(*axes)]
    return np.array(values).reshape([len(axis) for axis in axes])


def select(validation: np.ndarray) -> np.ndarray:
    """The best value by mean validation error over seeds, the first of equals.

    Args:
      validation: [..., values, seeds].

    Returns: indices, i[...].
    """
    return validation.mean(-1).argmin(-1)


def _read(workdir: pathlib.Path) -> Trained:
    history = writer.read_records(workdir / "metrics.jsonl")
    path = workdir / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    return Trained(workdir, summary, history)
