"""Kills and signals at random moments: every run ends as if nothing had been."""

import contextlib
import os
import pathlib
import random
import signal
import time

from tests.faults import runs
from tests.faults.outcome import Outcome

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
RUN_SECONDS = 2.5  # of a start to its end, about: moments are drawn from these
PATIENCE = 1.05  # by which a run on a busy machine gets more of them with each start


def kills(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """SIGKILL, until so many starts have been killed."""
    fault = "kill -9 at a random moment"
    return _until_done(fault, (signal.SIGKILL,), seed, tries, folder)


def signals(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """SIGTERM, SIGINT, SIGUSR1, SIGUSR2 in turn; no step may be lost."""
    fault = "a signal at a random moment"
    return _until_done(fault, SIGNALS, seed, tries, folder)


def _until_done(
    fault: str, numbers: tuple, seed: int, tries: int, folder: pathlib.Path
) -> Outcome:
    """Runs that are interrupted until they end, and compared with one that was not."""
    folder.mkdir(parents=True)
    moment, lost, done, most = random.Random(seed), [], 0, 0
    whole = runs.fork(lambda: runs.train(folder / "whole"), folder / "whole.txt")
    assert runs.status_of(whole) == 0, (folder / "whole.txt").read_text()
    number = 0
    while done < tries and not lost:
        workdir = folder / str(number)
        hits, why = _interrupt(workdir, numbers, done, moment)
        lost += [f"run {number}: {w}" for w in why]
        again = runs.steps_taken(workdir) - runs.EPOCHS * runs.STEPS
        most = max(most, again)
        if signal.SIGKILL not in numbers and again > 0:
            lost.append(f"run {number}: {again} steps taken again")
        if not why and (odd := runs.differences(workdir, folder / "whole")):
            lost.append(f"run {number}: {odd[:300]} differ")
        done, number = done + hits, number + 1
    return Outcome(fault, done, lost, f"{number} runs; {most} steps twice at most")


def _interrupt(
    workdir: pathlib.Path, numbers: tuple, done: int, moment: random.Random
) -> tuple[int, list[str]]:
    """Interrupts a run until it ends; how often, and what went wrong."""
    said = workdir.with_suffix(".txt")
    for hits in range(100):
        child = runs.fork(lambda: runs.train(workdir, count_steps=True), said)
        chosen = numbers[(done + hits) % len(numbers)]
        time.sleep(moment.uniform(0.3, RUN_SECONDS) * PATIENCE**hits)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, chosen)
        status = runs.status_of(child)
        if status == 0:
            return hits, []
        if status != 128 + chosen:
            return hits, [f"status {status}: {said.read_text()[:300]}"]
    return 100, ["it never ends"]
