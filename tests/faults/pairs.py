"""Signals to one of two processes at random moments: both stop, and both go on."""

import pathlib
import random
import signal
import subprocess
import time

from tests.faults import runs
from tests.faults.interruptions import SIGNALS
from tests.faults.outcome import Outcome
from tests.training.two_processes import start_two

SECONDS = 6.0  # after both have met and agreed, in which the signals come
PATIENCE = 120.0  # for the end of both


def signals_to_one(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """SIGTERM, SIGINT, SIGUSR1, SIGUSR2 in turn to one of the two, at random."""
    folder.mkdir(parents=True)
    moment, lost, done, number = random.Random(seed), [], 0, 0
    whole = folder / "whole"
    assert [code for code, _ in _end(start_two(whole))] == [0, 0]
    while done < tries and not lost:
        workdir, ended = folder / str(number), False
        while not ended and not lost:
            chosen = SIGNALS[done % len(SIGNALS)]
            pair = start_two(workdir)
            _wait_until_held(workdir / ".lock", pair)
            time.sleep(moment.uniform(0, SECONDS))
            hit = moment.randrange(2)
            pair[hit].send_signal(chosen)
            outcomes = _end(pair)
            ended = 0 in [code for code, _ in outcomes]  # the signal came after that
            done += not ended
            lost += [] if ended else _odd(number, outcomes, hit, chosen)
        if not lost and (odd := runs.differences(workdir, whole)):
            lost.append(f"run {number}: {odd[:300]} differ")
        number += 1
    return Outcome("a signal to one of two processes", done, lost, f"{number} runs")


def _odd(
    number: int, outcomes: list[tuple[int, str]], hit: int, chosen: signal.Signals
) -> list[str]:
    """What is wrong with an interrupted pair; nothing if both know why they ended.

    Before and after the steps the process that is hit ends alone, and the other one
    when it misses it.
    """
    status, early = 128 + chosen, "before or after its steps" in outcomes[hit][1]
    allowed = [{status}, {status}]
    if early:  # jax itself aborts a process that has lost process 0
        allowed[1 - hit] = {1, status, *([-signal.SIGABRT] if hit == 0 else [])}
    return [
        f"run {number}, process {i}: status {code}: {said[-300:]}"
        for i, (code, said) in enumerate(outcomes)
        if code not in allowed[i] or "Traceback" in said
    ]


def _wait_until_held(lock: pathlib.Path, pair: list[subprocess.Popen]) -> None:
    """Until process 0 has taken the work directory, after both have met."""
    deadline, holder = time.monotonic() + PATIENCE, f"process {pair[0].pid} "
    while all(process.poll() is None for process in pair):
        if lock.exists() and lock.read_text().startswith(holder):
            return
        assert time.monotonic() < deadline, lock
        time.sleep(0.01)


def _end(pair: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Status and words of both, once they have ended."""
    found = []
    for process in pair:
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            said = "it never ends"
        found.append((process.returncode, said))
    return found
