"""Processes that a command starts, and that end with it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

TERMINATED = 128 + signal.SIGTERM


def exit_on_sigterm() -> None:
    """Makes of SIGTERM an ordinary end of this process, with status 143.

    What is open is closed on the way out, child processes among it.
    """

    def leave(*_: Any) -> NoReturn:
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def child(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen]:
    """A process in a session of its own, which is ended with all that it has started.

    Args:
      options: of subprocess.Popen.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def end_with_parent(every: float = 0.5) -> None:
    """Ends this process soon after its parent, however that ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
