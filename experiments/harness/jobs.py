"""Runs side by side: worker processes, each with a share of the cores of its own.

Two small runs at once on two cores take little more time than one of them on both: most
of a step is too small to be shared.
"""

import multiprocessing
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import connection
from typing import Any, Protocol

import jax

from experiments.harness import processes
from experiments.harness.runs import Key
from sam_jax.training.errors import Interrupted

MOST = 8  # workers by default, for memory
GRACE = 20.0  # seconds in which a worker may save, when the command ends


class Task(Protocol):
    """What a worker is given. parent: the task that has to be done before, if any."""

    @property
    def parent(self) -> Key | None: ...


Attempt = Callable[[Key, Any, pathlib.Path], str]


def by_default() -> int:
    """Worker processes where none are asked for: a core each; one on an accelerator."""
    return min(len(cores()), MOST) if jax.default_backend() == "cpu" else 1


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def train(
    planned: Mapping[Key, Task],
    folder: pathlib.Path,
    attempt: Attempt,
    workers: int,
    report: Callable[[Key, str], None],
) -> dict[Key, str]:
    """Trains runs side by side, a parent before the runs that go on from it.

    Args:
      planned: what is to be trained; a parent that is not among them is finished.
      attempt: (key, run, folder) -> words on what came out; called in a worker.
      report: takes the key and the words of every run that was trained.

    Returns: why a run could not be trained, by key. The others are not lost with it.
    """
    waiting, failures = dict(planned), {}
    shares = [cores()[i::workers] for i in range(min(workers, len(planned)))]
    idle = [_Worker(share, attempt, folder) for share in shares]
    busy: dict[connection.Connection, _Worker] = {}
    try:
        while waiting or busy:
            for key in _ready(waiting, [w.key for w in busy.values()], failures):
                if idle:
                    worker = idle.pop()
                    worker.take(key, waiting.pop(key))
                    busy[worker.pipe] = worker
            for pipe in connection.wait(list(busy)) if busy else ():
                worker = busy.pop(pipe)
                key, failed, words = worker.result()
                if failed:
                    failures[key] = words
                else:
                    report(key, words)
                alive = worker.process.is_alive()
                idle.append(worker if alive else worker.again())
    finally:
        _end([*idle, *busy.values()])
    return failures


def _end(workers: list["_Worker"]) -> None:
    """Ends workers; one that trains is given the time to save what it has."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()


def _ready(
    waiting: dict[Key, Task], training: list[Key], failures: dict[Key, str]
) -> list[Key]:
    """Runs that wait for no other; those that a failed one leaves behind fail too."""
    for key, run in list(waiting.items()):
        if run.parent in failures:
            failures[key] = f"the run it goes on from failed: {failures[run.parent]}"
            del waiting[key]
    unfinished = {*waiting, *training}
    return [key for key, run in waiting.items() if run.parent not in unfinished]


class _Worker:
    """A process that trains one run after another."""

    def __init__(self, share: list[int], attempt: Attempt, folder: pathlib.Path):
        self._given = share, attempt, folder
        self.key: Key = ()
        self.pipe, its_side = multiprocessing.Pipe()
        x64 = bool(jax.config.read("jax_enable_x64"))
        self.process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(its_side, x64, *self._given), daemon=True
        )
        self.process.start()
        its_side.close()

    def take(self, key: Key, run: Task) -> None:
        """Gives it a run to train."""
        self.key = key
        self.pipe.send((key, run))

    def result(self) -> tuple[Key, bool, str]:
        """Its run, whether that failed, and words on it."""
        try:
            failed, words = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            failed, words = True, f"its process ended with status {code}"
        return self.key, failed, words

    def again(self) -> "_Worker":
        """A new process in place of one that has died."""
        return _Worker(*self._given)


def _work(
    pipe: Any, x64: bool, share: list[int], attempt: Attempt, folder: pathlib.Path
) -> None:
    """What a worker does. XLA takes as many threads as the process has cores."""
    from sam_jax.training import startup

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's affair
    processes.end_with_parent()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
    startup.use_compilation_cache()
    jax.config.update("jax_enable_x64", x64)
    while True:
        key, run = pipe.recv()
        try:
            answer = False, attempt(key, run, folder)
        except Interrupted as error:
            sys.exit(error.status)
        except Exception as error:  # one run must not end the others
            answer = True, f"{type(error).__name__}: {error}"
        pipe.send(answer)
