"""The training command on two processes of this machine."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def start_two(workdir):
    """The command on two processes, for a minute's training."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"--coordinator=localhost:{free.getsockname()[1]}"
    settings = {
        "epochs": 12,
        "batch_size": 128,
        "model.name": "linear",
        "model.dtype": "float64",
        "schedule.warmup_epochs": 0.0,
        "checkpoint.every_epochs": 100,
    }
    command = [sys.executable, "-m", "sam_jax.train", "--config=configs/digits.py:sam"]
    command += [f"--config.{name}={value}" for name, value in settings.items()]
    command += [address, f"--workdir={workdir}", "--process_count=2"]
    return [
        subprocess.Popen(
            [*command, f"--process_id={i}"],
            cwd=ROOT,
            env={**os.environ, "JAX_ENABLE_X64": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
