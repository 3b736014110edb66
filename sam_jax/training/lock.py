"""One run at a time in a work directory."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from sam_jax.training.errors import Locked

FILE = ".lock"


@contextlib.contextmanager
def held(workdir: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a work directory while the body runs.

    The lock is the operating system's, on an open file: a process that dies, however it
    dies, gives it back, so that nothing has to be cleaned up.

    Raises: Locked if another process, or another run of this one, holds it.
    """
    path = pathlib.Path(workdir) / FILE
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Locked(
                f"{workdir} is in use by {holder}: two runs in one directory would "
                "mix. Wait for its end, end it, or choose another --workdir."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
