"""Training the runs of an experiment: each once, in order, and never again.

A run's folder is all that is kept: the same call reads the finished runs and resumes
the one that was interrupted.
"""

import pathlib
import time
from collections.abc import Callable, Mapping

import jax
from ml_collections import ConfigDict

from experiments.harness.runs import (
    FAILURE,
    Key,
    PlannedRun,
    TrainedRun,
    describe,
    finished,
    folder_name,
    read,
)
from sam_jax import output
from sam_jax.analysis import restore
from sam_jax.training import config as configs
from sam_jax.training import fleet, loop
from sam_jax.training.errors import NonFiniteLoss

FLEET = 16  # runs trained together at most, for memory


def train(
    planned: Mapping[Key, PlannedRun],
    folder: output.Path,
    report: Callable[[str], None] = print,
    *,
    together: bool | None = None,
) -> dict[Key, TrainedRun]:
    """Trains every run that is not finished yet, one after another.

    Args:
      planned: a parent comes before the runs that go on from it.
      report: takes a line for every run that was trained.
      together: whether runs that differ in seed and coefficients alone are trained as
        one program, FLEET of them at most; None where it pays, on an accelerator.

    Raises: ConfigError for a folder that holds runs of other configurations.
    """
    folder = pathlib.Path(folder)
    trained: dict[Key, TrainedRun] = {}
    if jax.default_backend() != "cpu" if together is None else together:
        train_fleets(planned, folder)
    for number, (key, plan) in enumerate(planned.items(), start=1):
        workdir, start = folder / folder_name(key), time.perf_counter()
        found = finished(plan, workdir)
        if found is not None:
            trained[key] = found
        else:
            if plan.parent is not None:
                source = folder / folder_name(plan.parent)
                restore.branch(source, plan.epoch, plan.config, workdir)
            trained[key] = run(plan.config, workdir)
            seconds = time.perf_counter() - start
            text = describe(trained[key])
            report(
                f"{number}/{len(planned)} {folder_name(key)}: {text} ({seconds:.0f} s)"
            )
    return trained


def train_fleets(planned: Mapping[Key, PlannedRun], folder: pathlib.Path) -> None:
    """Trains those unfinished runs together that may be, and leaves the others."""
    alike: dict[str, list[loop.Run]] = {}
    for key, plan in planned.items():
        workdir = folder / folder_name(key)
        if plan.parent is None and finished(plan, workdir) is None:
            run = loop.prepare(plan.config, workdir)
            flat = configs.flatten(run.config).items()
            kind = str([(k, v) for k, v in flat if k not in fleet.FREE_KEYS])
            alike.setdefault(kind, []).append(run)
    for runs in alike.values():
        for some in (runs[i : i + FLEET] for i in range(0, len(runs), FLEET)):
            if fleet.fits(some):
                for run, result in zip(some, fleet.train(some), strict=True):
                    if isinstance(result, NonFiniteLoss):
                        output.write_json(run.workdir / FAILURE, str(result))


def run(config: ConfigDict, workdir: output.Path) -> TrainedRun:
    """Trains one run; a loss that is not finite is a result, too, and is noted."""
    try:
        loop.run(config, workdir, silent=True)
    except NonFiniteLoss as error:
        output.write_json(pathlib.Path(workdir) / FAILURE, str(error))
    return read(pathlib.Path(workdir))
