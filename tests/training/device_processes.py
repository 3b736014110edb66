"""Processes with several CPU devices each, for tests that compare layouts."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def start(module, devices, *arguments, **variables):
    """Runs a module of the tests with so many CPU devices.

    Args:
      variables: of its environment, where they are not those of this process.
    """
    environment = {**os.environ, **{n: str(v) for n, v in variables.items()}}
    flag = f" --xla_force_host_platform_device_count={devices}"
    environment["XLA_FLAGS"] = environment.get("XLA_FLAGS", "") + flag
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_address():
    """A place where processes can meet."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def finish(*processes):
    """Waits for them, and fails with what one says that fails."""
    for process in processes:
        output, _ = process.communicate(timeout=3600)
        assert process.returncode == 0, output
