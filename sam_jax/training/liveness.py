"""Processes of one run that notice when another of them has ended.

Without this the others wait for minutes in a collective operation that nobody joins.
Every process counts aloud in the store that they share, until it has finished; one that
says it has ended before that, or is silent for a while, ends the others with one line.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

from sam_jax.ops import compat

EVERY, PATIENCE = 1.0, 30.0  # seconds between two counts; of silence that are too many
PREFIX = "sam_jax/alive/"
ENDED = "ended with status "
FINISHED = "finished"


class Listener:
    """What a process makes of the counts of the others."""

    def __init__(self, process: int, now: float):
        """process: its own number. now: seconds on a clock that never goes back."""
        self._process, self._begun = process, now
        self._heard: dict[int, tuple[str, float]] = {}

    def gone(self, counts: Mapping[int, str], now: float) -> str | None:
        """Which other process has ended, in words, or None.

        Args:
          counts: process -> what it said last.
        """
        for process, said in counts.items():
            if said.startswith(ENDED) and process != self._process:
                return f"Process {process} has {said}"
            if self._heard.get(process, ("", 0.0))[0] != said:
                self._heard[process] = said, now
        for process, (said, when) in self._heard.items():
            if process == self._process or said == FINISHED:
                continue
            if now - when > PATIENCE:
                return f"Process {process} has said nothing for {PATIENCE:.0f} s"
        return None


def watch(process: int) -> None:
    """Counts for this process, and listens to the others, for as long as it lives."""
    store, ends = compat.process_store(), threading.Event()

    def say(what: str) -> None:
        store.key_value_set(f"{PREFIX}{process}", what, allow_overwrite=True)

    def run() -> None:
        listener, count = Listener(process, time.monotonic()), 0
        while not ends.is_set():
            say(str(count))
            entries = store.key_value_dir_get(PREFIX)
            counts = {int(key.rpartition("/")[2]): said for key, said in entries}
            if (gone := listener.gone(counts, time.monotonic())) is not None:
                print(
                    f"sam_jax: {gone}. What was saved stays: start all processes of "
                    "this run again.",
                    file=sys.stderr,
                )
                _leave(status=1)
            count += 1
            ends.wait(EVERY)

    thread = threading.Thread(target=run, daemon=True, name="liveness")
    thread.start()

    def finish() -> None:
        # Python ends with an abort where a thread is within the store.
        ends.set()
        thread.join(PATIENCE)
        with contextlib.suppress(Exception):  # process 0 may have left before
            say(FINISHED)

    atexit.register(finish)


def end(process: int, status: int) -> NoReturn:
    """Ends this process before the run has ended, and tells the others."""
    store = compat.process_store()
    with contextlib.suppress(Exception):  # the store may be what is lost
        store.key_value_set(
            f"{PREFIX}{process}", f"{ENDED}{status}", allow_overwrite=True
        )
    if process == 0:  # the store ends with it: let the others read that first
        time.sleep(3 * EVERY)
    _leave(status)


def _leave(status: int) -> NoReturn:
    # An ordinary end would wait for the others.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
