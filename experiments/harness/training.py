"""Training the runs of an experiment: each once, in order, and never again.

A run's folder is all that is kept: the same call reads the finished runs and resumes
the one that was interrupted.
"""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.harness import jobs
from experiments.harness.runs import (
    FAILURE,
    Key,
    PlannedRun,
    TrainedRun,
    describe,
    finished,
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
        train_fleets(planned, folder, tell, workers)
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
    """Trains one run, measures it if planned, and says in a line what came out."""
    begun, workdir = time.perf_counter(), folder / folder_name(key)
    trained = finished(plan._replace(then=None), workdir)
    if trained is None:
        branch(key, plan, folder)
        trained = run(plan.config, workdir)
    if plan.then and trained.summary:
        plan.then.of(workdir)
    return f"{describe(trained)} ({time.perf_counter() - begun:.0f} s)"


class Fleet(NamedTuple):
    """Runs that are trained as one program, and go on from no other."""

    members: dict[Key, ConfigDict]
    parent: None = None


def train_fleets(
    planned: Mapping[Key, PlannedRun],
    folder: pathlib.Path,
    tell: Callable[[Key, str], None],
    workers: int = 1,
) -> None:
    """Trains those unfinished runs together that may be, and leaves the others.

    Those that go on from another run come after it. One fleet at a time is prepared,
    and in memory; with several workers one in each.
    """

    def said(key: Key, _: str) -> None:
        for member in fleets[key].members:
            if result := finished(planned[member], folder / folder_name(member)):
                tell(member, describe(result))

    for later in (False, True):
        left = {
            key: plan.config
            for key, plan in unfinished(planned, folder).items()
            if (plan.parent is not None) == later
            and not (folder / folder_name(key) / "summary.json").exists()
            and start(key, plan, folder)
        }
        fleets = {next(iter(f.members)): f for f in form_fleets(left, folder)}
        if workers > 1 and len(fleets) > 1:
            jobs.train(fleets, folder, attempt_fleet, workers, said)
            continue
        for key, one in fleets.items():
            said(key, attempt_fleet(key, one, folder))


def form_fleets(left: Mapping[Key, ConfigDict], folder: pathlib.Path) -> list[Fleet]:
    """Fleets of runs of equal configurations and epochs, the largest first."""
    found: dict[tuple, list[Key]] = {}
    for key, config in left.items():
        epoch = str(fleet.progress(folder / folder_name(key)))
        found.setdefault((*fleet.likeness(config), epoch), []).append(key)
    parts = [
        keys[i : i + FLEET]
        for keys in found.values()
        for i in range(0, len(keys), FLEET)
    ]
    parts.sort(key=len, reverse=True)
    return [Fleet({key: left[key] for key in keys}) for keys in parts if len(keys) > 1]


def attempt_fleet(key: Key, one: Fleet, folder: pathlib.Path) -> str:
    """Trains a fleet; its runs that are not finished then are trained alone."""
    del key
    _train_fleet(
        [
            (configuration.check(config), folder / folder_name(member))
            for member, config in one.members.items()
        ]
    )
    return ""


def start(key: Key, plan: PlannedRun, folder: pathlib.Path) -> bool:
    """Makes the folder of a run that goes on from another; whether there is a state to
    begin with.
    """
    if (
        plan.parent
        and not (folder / folder_name(plan.parent) / "summary.json").exists()
    ):
        return False
    try:
        branch(key, plan, folder)
    except (ValueError, OSError, TrainingError):
        return False  # said when it is trained alone
    return True


def branch(key: Key, plan: PlannedRun, folder: pathlib.Path) -> None:
    """Makes the folder of a run that goes on from another, if it does."""
    if plan.parent is not None:
        source, workdir = (folder / folder_name(k) for k in (plan.parent, key))
        average = plan.average
        restore.branch(source, plan.epoch, plan.config, workdir, average=average)


def _train_fleet(members: list[tuple[configuration.Config, pathlib.Path]]) -> None:
    """Trains a fleet, in halves if the memory does not hold it. What goes wrong
    otherwise is said when the runs are trained alone.
    """
    if not fleet.fits(members):
        return
    half = len(members) // 2
    try:
        fleet.train(fleet.prepare(members), _note_failure)
        return
    except Interrupted:
        raise
    except (ValueError, OSError, TrainingError):
        return
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
    # Not before the error is gone, which holds on to the arrays of the whole fleet.
    _train_fleet(members[:half])
    _train_fleet(members[half:])


def _note_failure(run: loop.Run, error: NonFiniteLoss) -> None:
    output.write_json(run.workdir / FAILURE, str(error))


def run(config: ConfigDict, workdir: output.Path) -> TrainedRun:
    """Trains one run; a loss that is not finite is a result, too, and is noted."""
    try:
        loop.run(config, workdir, silent=True)
    except NonFiniteLoss as error:
        output.write_json(pathlib.Path(workdir) / FAILURE, str(error))
    return read(pathlib.Path(workdir))
