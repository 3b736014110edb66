"""Training the runs of an experiment: each once, in order, and never again.

A run's folder is all that is kept: the same call reads the finished runs and resumes
the one that was interrupted.
"""

import itertools
import pathlib
import time
from collections.abc import Callable, Mapping

import jax
from ml_collections import ConfigDict

from experiments.harness import jobs
from experiments.harness.runs import (
    FAILURE,
    Key,
    PlannedRun,
    TrainedRun,
    describe,
    folder_name,
    read,
    unfinished,
)
from sam_jax import output
from sam_jax.analysis import restore
from sam_jax.training import configuration, fleet, loop
from sam_jax.training.errors import Interrupted, NonFiniteLoss, TrainingError

FLEET = 64  # runs trained together at most: more would gain little
Report = Callable[[str], None]


def train(
    planned: Mapping[Key, PlannedRun],
    folder: output.Path,
    report: Report = print,
    *,
    workers: int = 1,
    together: bool | None = None,
) -> dict[Key, TrainedRun]:
    """Trains every run that is not finished yet; those with a trial after the others,
    and where the choice falls on their value.

    Args:
      planned: a parent comes before the runs that go on from it.
      report: takes a line for every run that was trained.
      workers: processes that train side by side; with 1, this one trains.
      together: whether runs that differ in seed and coefficients alone are trained as
        one program, FLEET of them at most; None where it pays, on an accelerator.

    Raises: ConfigError for a folder that holds runs of other configurations;
      TrainingError, after all others, for runs that could not be trained.
    """
    folder = pathlib.Path(folder)
    together = jax.default_backend() != "cpu" if together is None else together
    numbers = {key: i for i, key in enumerate(planned, start=1)}

    def tell(key: Key, words: str) -> None:
        report(f"{numbers[key]}/{len(planned)} {folder_name(key)}: {words}")

    first = {key: plan for key, plan in planned.items() if plan.trial is None}
    trained = _train(first, folder, tell, workers, together)
    late = {
        key: plan
        for key, plan in planned.items()
        if plan.trial is not None and plan.trial.chosen(trained)
    }
    return trained | _train(late, folder, tell, workers, together)


def _train(
    planned: Mapping[Key, PlannedRun],
    folder: pathlib.Path,
    tell: Callable[[Key, str], None],
    workers: int,
    together: bool,
) -> dict[Key, TrainedRun]:
    """Trains runs, whatever their trials say; TrainingError for those that failed."""
    if together:
        train_fleets(planned, folder, tell)
    left = unfinished(planned, folder)
    if workers > 1 and len(left) > 1:
        failures = jobs.train(left, folder, attempt, workers, tell)
    else:
        failures = _one_by_one(left, folder, tell)
    if failures:
        first = {why: key for key, why in reversed(failures.items())}
        listed = "; ".join(f"{folder_name(k)}: {why}" for why, k in first.items())
        raise TrainingError(
            f"{len(failures)} of {len(planned)} runs could not be trained ({listed}). "
            "The others are kept: the same command goes on."
        )
    return {key: read(folder / folder_name(key)) for key in planned}


def _one_by_one(
    left: Mapping[Key, PlannedRun],
    folder: pathlib.Path,
    tell: Callable[[Key, str], None],
) -> dict[Key, str]:
    """Trains runs in this process; why one could not be trained, by key."""
    failures: dict[Key, str] = {}
    for key, plan in left.items():
        try:
            if plan.parent in failures:
                raise TrainingError("the run it goes on from failed")
            tell(key, attempt(key, plan, folder))
        except Interrupted:
            raise
        except (ValueError, OSError, TrainingError) as error:
            failures[key] = str(error)
    return failures


def attempt(key: Key, plan: PlannedRun, folder: pathlib.Path) -> str:
    """Trains one run, and says in a line what came out."""
    workdir, start = folder / folder_name(key), time.perf_counter()
    if plan.parent is not None:
        source = folder / folder_name(plan.parent)
        restore.branch(source, plan.epoch, plan.config, workdir)
    trained = run(plan.config, workdir)
    return f"{describe(trained)} ({time.perf_counter() - start:.0f} s)"


def train_fleets(
    planned: Mapping[Key, PlannedRun],
    folder: pathlib.Path,
    tell: Callable[[Key, str], None],
) -> None:
    """Trains those unfinished runs together that may be, and leaves the others.

    Those that go on from another run come after it. Fleets are formed of
    configurations and epochs; one fleet is prepared, and in memory, at once.
    """
    for later in (False, True):
        left = {
            folder / folder_name(key): (key, configuration.check(plan.config))
            for key, plan in unfinished(planned, folder).items()
            if (plan.parent is not None) == later and start(key, plan, folder)
        }
        likeness = {
            workdir: (*fleet.likeness(config), str(fleet.progress(workdir)))
            for workdir, (_, config) in left.items()
        }
        ordered = sorted(left, key=likeness.__getitem__)
        for _, alike in itertools.groupby(ordered, likeness.__getitem__):
            members = [(left[workdir][1], workdir) for workdir in alike]
            for i in range(0, len(members), FLEET):
                for workdir in _train_fleet(members[i : i + FLEET]):
                    tell(left[workdir][0], describe(read(workdir)))


def start(key: Key, plan: PlannedRun, folder: pathlib.Path) -> bool:
    """Makes the folder of a run that goes on from another; whether there is a state to
    begin with.
    """
    if plan.parent is None:
        return True
    source = folder / folder_name(plan.parent)
    if not (source / "summary.json").exists():
        return False
    try:
        restore.branch(source, plan.epoch, plan.config, folder / folder_name(key))
    except (ValueError, OSError, TrainingError):
        return False  # said when it is trained alone
    return True


def _train_fleet(
    members: list[tuple[configuration.Config, pathlib.Path]],
) -> list[pathlib.Path]:
    """Trains a fleet, in halves if the memory does not hold it; those that are
    finished. What goes wrong otherwise is said when they are trained alone.
    """
    if not fleet.fits(members):
        return []
    half = len(members) // 2
    try:
        fleet.train(fleet.prepare(members), _note_failure)
        return [workdir for _, workdir in members]
    except Interrupted:
        raise
    except (ValueError, OSError, TrainingError):
        return []
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
    # Not before the error is gone, which holds on to the arrays of the whole fleet.
    return _train_fleet(members[:half]) + _train_fleet(members[half:])


def _note_failure(run: loop.Run, error: NonFiniteLoss) -> None:
    output.write_json(run.workdir / FAILURE, str(error))


def run(config: ConfigDict, workdir: output.Path) -> TrainedRun:
    """Trains one run; a loss that is not finite is a result, too, and is noted."""
    try:
        loop.run(config, workdir, silent=True)
    except NonFiniteLoss as error:
        output.write_json(pathlib.Path(workdir) / FAILURE, str(error))
    return read(pathlib.Path(workdir))
