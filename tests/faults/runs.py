"""Small training runs in processes of their own, and what they leave."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from sam_jax.training import checkpoint, loop, writer
from sam_jax.training.errors import TrainingError
from sam_jax.training.progress import Progress
from tests.training import problems
from tests.training.problems import tiny

EPOCHS, STEPS = 4, 10  # steps of an epoch
RUN = {
    **problems.RUN,
    "epochs": EPOCHS,
    "checkpoint__every_minutes": 0.002,
    "checkpoint__best": True,
}


def train(
    workdir: pathlib.Path,
    *,
    count_steps: bool = False,
    stop_after: int | None = None,
    **changes: Any,
) -> None:
    """Trains, in a process of its own.

    Args:
      count_steps: whether WORKDIR.log gets a byte for every step that is taken.
      stop_after: the step after which the process gets a SIGTERM; None for never.
    """
    report, taken = Progress.step, itertools.count(1)

    def step(self: Progress, measured: dict) -> None:
        report(self, measured)
        if count_steps:
            with open(workdir.with_suffix(".log"), "ab") as file:
                file.write(b".")
        if next(taken) == stop_after:
            signal.raise_signal(signal.SIGTERM)

    Progress.step = step
    loop.run(tiny(**{**RUN, **changes}), workdir, silent=True)


def fork(work: Callable[[], None], errors: pathlib.Path) -> int:
    """Starts a child that does some work; returns its number.

    The parent has imported everything and computed nothing, not even a comparison, so
    that it has no threads: a start takes half a second.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # jax's, of its threads
        child = os.fork()
    if child:
        return child
    status = 70
    try:
        descriptor = os.open(errors, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        work()
        status = 0
    except (TrainingError, ValueError, OSError) as error:
        status = getattr(error, "status", 2)
        print(error)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else bool(error.code)
        if isinstance(error.code, str):
            print(error.code)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:  # nothing may unwind into the parent's code in this child
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # the disk may be full
            sys.stdout.flush()
        os._exit(status)


def status_of(child: int, seconds: float = 120.0) -> int:
    """The status of a child that ends by itself, as a shell would say it."""
    deadline = time.monotonic() + seconds
    while True:
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(raw)
            return code if code >= 0 else 128 - code
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1
        time.sleep(0.005)


def steps_taken(workdir: pathlib.Path) -> int:
    """Steps of all starts of a run together."""
    log = workdir.with_suffix(".log")
    return log.stat().st_size if log.exists() else 0


def differences(received: pathlib.Path, expected: pathlib.Path) -> str:
    """Where two finished runs are not the same bit for bit; "" for nowhere."""
    said = received.with_suffix(".differences")
    status = status_of(
        fork(lambda: print(", ".join(_differences(received, expected)), end=""), said)
    )
    return said.read_text() + (f"status {status}" if status else "")


def _differences(received: pathlib.Path, expected: pathlib.Path) -> list[str]:
    """Names of what is not the same, less what a clock said."""
    states, records = [], []
    for workdir in (received, expected):
        with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
            states.append(saved.restore())
        lines = writer.read_records(workdir / "metrics.jsonl")
        records.append([json.dumps({**line, "seconds": 0}) for line in lines])
    if None in states:
        return ["no checkpoint"]
    odd = [] if states[0].number == states[1].number else ["epoch"]
    for name, array in states[1].state.items():
        if not np.array_equal(states[0].state.get(name), array):
            odd.append(name)
    return odd + (["records"] if records[0] != records[1] else [])
