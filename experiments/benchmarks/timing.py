"""How everything here is timed: alternating runs, medians and minima, ratios.

Machines are shared and drift, so a ratio is taken between calls that alternate in one
process, never between two processes' seconds.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Seconds of one call: median and minimum over rounds."""

    median: float
    minimum: float


def alternate(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int = 10
) -> dict[str, Timing]:
    """Times calls in turn, A B C A B C ...; each returns what is to be waited for."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {k: Timing(statistics.median(v), min(v)) for k, v in seconds.items()}


def compiled(function: Callable, *args: Any) -> tuple[Any, float]:
    """(executable, seconds of tracing and compiling), past the persistent cache."""
    with jax.enable_compilation_cache(False):
        start = time.perf_counter()
        executable = jax.jit(function).lower(*args).compile()
        return executable, time.perf_counter() - start


def temporary_bytes(executable: Any) -> int:
    """Peak temporary memory of a compiled function, beyond arguments and results."""
    return executable.memory_analysis().temp_size_in_bytes


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":")[1].strip() for line in file if "model name" in line
            ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "devices": [str(d.device_kind) for d in jax.devices()],
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
