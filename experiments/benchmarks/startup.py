"""From a user's command to the first training step, as its terminal shows it."""

import os
import pty
import re
import sys
import tempfile
import termios
import time

from experiments.benchmarks import rows, timing
from experiments.harness import processes

GOAL, TIMES = 12.0, 3  # seconds; runs after the one that fills the cache
FIRST_STEP = re.compile(rb"[1-9]\d*/\d+ \[")  # of the progress bar
COMMAND = (sys.executable, "-m", "experiments.main_job")


def first_step() -> list[rows.Row]:
    """Seconds from `python -m experiments.main_job` to the first step on its progress
    bar: with an empty compilation cache, and with the cache of that run.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        seconds = [
            seconds_to_first_step(f"{folder}/{i}", environment)
            for i in range(1 + TIMES)
        ]
    cold, *warm = seconds
    what = "command to first training step of the main job"
    return [
        rows.alone(f"{what}, empty cache", timing.Timing.of([cold])),
        rows.alone(f"{what}, warm cache", timing.Timing.of(warm), goal=GOAL),
    ]


def seconds_to_first_step(out: str, environment: dict[str, str]) -> float:
    """Starts the main job on a terminal of its own; ends it after its first step.

    Raises: RuntimeError with the job's output if it ends before.
    """
    terminal, its_side = pty.openpty()
    termios.tcsetwinsize(its_side, (24, 120))  # none is 0 columns: no bar
    sides = {"stdin": its_side, "stdout": its_side, "stderr": its_side}
    start, seen = time.perf_counter(), b""
    try:
        with processes.child([*COMMAND, f"--out={out}"], env=environment, **sides):
            os.close(its_side)
            while not FIRST_STEP.search(seen):
                try:
                    seen += os.read(terminal, 4096)
                except OSError:  # nobody writes to the terminal any more
                    raise RuntimeError(seen.decode(errors="replace")) from None
            return time.perf_counter() - start
    finally:
        os.close(terminal)
