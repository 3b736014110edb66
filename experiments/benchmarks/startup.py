"""From a user's command to the first training step, as its terminal shows it."""

import contextlib
import os
import pty
import re
import signal
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Sequence

from experiments.benchmarks import rows, timing
from experiments.harness import processes

GOAL, RESUME_GOAL, TIMES = 12.0, 5.0, 3  # seconds; runs after the one for the cache
COUNT = re.compile(rb"(\d+)/\d+ \[")  # steps, on the progress bar
COMMAND = (sys.executable, "-m", "experiments.main_job")
RUN = (sys.executable, "-m", "sam_jax.train", "--config=configs/digits.py:sam")


def first_step() -> list[rows.Row]:
    """Seconds from `python -m experiments.main_job` to the first step on its progress
    bar, with an empty compilation cache and with the cache of that run; and from the
    command that resumes a run of the SAM recipe to the next step.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        cold, *warm = [
            seconds_to_a_step([*COMMAND, f"--out={folder}/{i}"], environment)
            for i in range(1 + TIMES)
        ]
        resume = [*RUN, f"--workdir={folder}/run"]
        _, _, *resumed = [
            seconds_to_a_step(resume, environment) for _ in range(2 + TIMES)
        ]
    what = "command to first training step of the main job"
    again = "command to next step of a resumed run, warm cache"
    return [
        rows.alone(f"{what}, empty cache", timing.Timing.of([cold])),
        rows.alone(f"{what}, warm cache", timing.Timing.of(warm), goal=GOAL),
        rows.alone(again, timing.Timing.of(resumed), goal=RESUME_GOAL),
    ]


def seconds_to_a_step(command: Sequence[str], environment: dict[str, str]) -> float:
    """Starts a command on a terminal of its own, and ends it after a step, which a run
    saves before it ends.

    Raises: RuntimeError with the command's output if it ends before.
    """
    terminal, its_side = pty.openpty()
    termios.tcsetwinsize(its_side, (24, 120))  # none is 0 columns: no bar
    sides = {"stdin": its_side, "stdout": its_side, "stderr": its_side}
    start, seen, counts = time.perf_counter(), b"", []
    try:
        with processes.child(command, env=environment, **sides) as process:
            os.close(its_side)
            while not counts or counts[-1] == counts[0]:
                seen += _read(terminal, seen)
                counts = [int(count) for count in COUNT.findall(seen)]
            seconds = time.perf_counter() - start
            process.send_signal(signal.SIGTERM)
            threading.Thread(target=_drain, args=(terminal,), daemon=True).start()
            process.wait()
            return seconds
    finally:
        os.close(terminal)


def _read(terminal: int, seen: bytes) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody writes to the terminal any more
        raise RuntimeError(seen.decode(errors="replace")) from None


def _drain(terminal: int) -> None:
    """Reads what is still written, so that the writer does not wait."""
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass
