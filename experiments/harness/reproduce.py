"""`make reproduce`: this machine and its versions, and the fingerprint of a tiny run.

Two machines that print the same fingerprint give the same results bit for bit; where
they differ, the lines above it say what may be why (README, "What is promised").
"""

import importlib.metadata
import os
import pathlib
import platform
import tempfile

import jax

from configs import digits
from sam_jax import output
from sam_jax.training import checkpoint, flat_state, loop, startup

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


def environment() -> dict[str, str]:
    """What results depend on bit for bit, beside the configuration."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "machine": f"{platform.machine()}, {platform.system()}",
        "device": f"{device.device_kind}, {jax.device_count()} of them",
        "cores": str(cores),
        "python": platform.python_version(),
        **versions,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def fingerprint(workdir: output.Path) -> dict[str, str]:
    """Trains the main job's smoke run with SAM, and sums up its state and figures."""
    workdir = pathlib.Path(workdir)
    summary = loop.run(digits.get_config("sam,smoke"), workdir, silent=True)
    with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
        state = saved.restore()
    assert state is not None
    return {
        "state after the last epoch": f"{flat_state.checksum(state.state):08x}",
        "training loss": repr(summary["train_loss_last"]),
        "test loss": repr(summary["test_loss_last"]),
    }


def main() -> None:
    """Prints both as a table."""
    startup.use_compilation_cache()
    with tempfile.TemporaryDirectory() as folder:
        rows = environment() | fingerprint(pathlib.Path(folder) / "run")
    print(output.table(["what", "here"], [list(row) for row in rows.items()]))


if __name__ == "__main__":
    main()
