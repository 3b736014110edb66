"""What a run is asked for while it trains: to end, by a signal, or to save, by a clock.

A signal is only noted when it comes. All processes of a run hear of it with the same
step, so that all stop after the same one.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax

from sam_jax.training import parallel
from sam_jax.training.errors import Interrupted

NOTHING, SAVE = 0, 1  # signals that are seen to have greater numbers
# A scheduler's warnings before it ends a job. A library such as submitit has a handler
# of its own for one of them, which puts the job into the queue again.
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
# What a terminal, a scheduler's warning and its end send.
SIGNALS = (signal.SIGINT, *WARNINGS, signal.SIGTERM)


class Requests:
    """Requests to one run, as a context in which signals are noted."""

    def __init__(self, layout: parallel.Layout, save_every: float = 0.0):
        """Args:
        layout: of the run.
        save_every: seconds between requests to save; 0 for none.
        """
        self._layout = layout
        self._save_every, self._saved = save_every, time.monotonic()
        self._received = NOTHING
        self._before: dict[int, Any] = {}

    def share(self) -> Any:
        """Hands what this process has been asked for to all; called once a step.

        Returns: what `read` waits for.
        """
        if jax.process_count() == 1:
            return None
        return self._layout.greatest(self._asked())

    def read(self, shared: Any) -> int:
        """NOTHING, SAVE, or the number of a signal: the same on all processes."""
        if jax.process_count() == 1:
            return self._asked()
        return int(self._layout.fetch(shared))

    def saved(self) -> None:
        """The state has been saved: the clock starts again."""
        self._saved = time.monotonic()

    def hand_on(self, number: int) -> bool:
        """Gives a warning to the handler that was there before this context.

        Returns: False if there was none, so that the run has to end; True if the
          handler has come back, and the run may go on.
        """
        handler: Any = self._before.get(number)
        if number not in WARNINGS or not _is_librarys(handler):
            return False
        self._received = NOTHING
        handler(number, None)
        return True

    def _asked(self) -> int:
        due = parallel.is_first_process() and self._save_is_due()
        return self._received or (SAVE if due else NOTHING)

    def _save_is_due(self) -> bool:
        return 0 < self._save_every <= time.monotonic() - self._saved

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received == number:
            raise KeyboardInterrupt  # the second time somebody is in a hurry
        self._received = max(self._received, number)

    def __enter__(self) -> "Requests":
        if threading.current_thread() is threading.main_thread():
            library = any(_is_librarys(signal.getsignal(n)) for n in WARNINGS)
            for number in SIGNALS:
                if library and number == signal.SIGTERM:
                    continue  # which does not end the job, but comes with the warning
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise Interrupted(
        number,
        f"Ended by {name} before or after its steps; the same command goes on from "
        "what was saved before, if anything was.",
    )


def _is_librarys(handler: Any) -> bool:
    """Whether a handler of a warning is that of a scheduler's library."""
    return callable(handler) and handler is not _leave


@contextlib.contextmanager
def ends_program() -> Iterator[None]:
    """A context in which a signal ends the program at once; but for `Requests` in it.

    Raises: Interrupted, where the program is when the signal comes.
    """
    before = {number: signal.signal(number, _leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
