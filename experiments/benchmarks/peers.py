"""Our plain SAM step against PyTorch's, on the same network and batch.

PyTorch runs in a process and a virtual environment of its own (`make bench-peers`
makes it); the two take steps in turn, so that neither has the machine while the other
does, and both meet the same drift.
"""

import functools
import pathlib
import subprocess

import jax.numpy as jnp

from experiments.benchmarks import networks, rows, steps, timing
from experiments.harness import processes
from sam_jax.core.gradient import sharpness_aware_gradient

PYTHON = ".venv-peers/bin/python"
BATCH, WARM_UP = 128, 2
# network, image size, channels, rounds, most time over PyTorch's
CASES = (
    ("ResNet-18 w16 32x32", 32, 3, 8, 1.2),
    ("ResNet-18 w16 8x8", 8, 1, 30, 1.0),
)


def against_pytorch() -> list[rows.Row]:
    """Seconds of a step of ours over those of PyTorch's, eager, channels last.

    Raises: FileNotFoundError if there is no .venv-peers.
    """
    if not pathlib.Path(PYTHON).exists():
        raise FileNotFoundError(
            f"There is no {PYTHON}; `make bench-peers` makes it and then runs this."
        )
    return [_one_case(*case) for case in CASES]


def _one_case(
    name: str, size: int, channels: int, rounds: int, goal: float
) -> rows.Row:
    problem = networks.make(name, BATCH)
    gradient = functools.partial(
        sharpness_aware_gradient, problem.objective, rho=jnp.float32(0.1)
    )
    step = steps.training_step(gradient, problem)
    script = pathlib.Path(__file__).with_name("torch_sam.py")
    command = [PYTHON, script, str(size), str(channels), str(BATCH)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with processes.child(command, text=True, bufsize=1, **pipes) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        version, threads = peer.stdout.readline().split()
        calls = {"ours": lambda: timing.stopwatch(step), "theirs": lambda: _ask(peer)}
        for _ in range(WARM_UP):
            for call in calls.values():
                call()
        seconds = {who: [] for who in calls}
        for _ in range(rounds):
            for who, call in calls.items():
                seconds[who].append(call())
        peer.stdin.close()
    timings = {who: timing.Timing.of(values) for who, values in seconds.items()}
    figure = f"SAM step over PyTorch {version}'s ({threads} threads), {name}, batch 128"
    return rows.compare(figure, timings, "ours", "theirs", goal=goal)


def _ask(peer: subprocess.Popen) -> float:
    """One step in the other process; its own seconds, without the pipe's."""
    print("step", file=peer.stdin, flush=True)
    return float(peer.stdout.readline())
