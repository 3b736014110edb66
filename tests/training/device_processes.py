"""Processes with several CPU devices each, for tests that compare layouts."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def start(module, devices, *arguments, **variables):
    """Runs a module of the tests with so many CPU devices.

    Args:
      variables: further variables of its environment.
    """
    flag = f" --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flag}
    environment |= {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for them, and fails with what one says that fails."""
    for process in processes:
        output, _ = process.communicate(timeout=3600)
        assert process.returncode == 0, output
