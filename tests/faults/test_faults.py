"""The core of `make faults`: a hundredth of its tries, of every kind but one, which
test_interruption has once: signals to one of two processes.
"""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.faults.__main__ import SUITES

ROOT = pathlib.Path(__file__).parents[2]
FAILS = """
import pathlib, sys
from tests.faults import runs
said = pathlib.Path(sys.argv[1])
status = runs.status_of(runs.fork(lambda: 1 / 0, said))
assert status == 70 and "ZeroDivisionError" in said.read_text(), status
assert runs.differences(said.with_name("nothing"), said.with_name("nowhere"))
"""


def run(*command):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )


@pytest.mark.program
def test_nothing_is_lost():
    kinds = [name for name in SUITES if name != "pairs"]
    done = run("-m", "tests.faults", "--share=0.01", f"--only={','.join(kinds)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 2 + len(kinds)


def test_what_is_lost_would_be_seen(tmp_path):
    done = run("-c", FAILS, str(tmp_path / "said"))
    assert done.returncode == 0, done.stderr
