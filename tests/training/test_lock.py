"""One run at a time in a work directory; a dead holder holds nothing."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from sam_jax.training import lock, loop
from sam_jax.training.errors import Locked
from tests.training.problems import tiny

ROOT = pathlib.Path(__file__).parents[2]
HOLD = (
    "import sys; from sam_jax.training import lock\n"
    "with lock.held(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_and_told_whose_the_directory_is(holder, tmp_path):
    run = loop.prepare(tiny(epochs=1), tmp_path)
    with pytest.raises(Locked, match=rf"in use by process {holder.pid} on \S+: two"):
        loop.train(run, silent=True)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_directory_of_a_process_that_died_is_free(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock.held(tmp_path):
        pass


def test_a_run_that_ends_gives_its_directory_back(tmp_path):
    with pytest.raises(KeyError), lock.held(tmp_path):
        raise KeyError
    with lock.held(tmp_path), pytest.raises(Locked), lock.held(tmp_path):
        pass
