"""How everything here is timed: alternating runs, medians and minima, ratios.

Machines are shared and drift, so a ratio is taken between calls that alternate, never
between seconds that were measured at different times.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

FEWEST_ROUNDS = 3


class Timing(NamedTuple):
    """Seconds of one call: median and minimum over rounds."""

    median: float
    minimum: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        return cls(statistics.median(seconds), min(seconds), len(seconds))


def alternate(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int = 10, limit: float = 20.0
) -> dict[str, Timing]:
    """Times calls in turn, A B C A B C ...; each returns what is to be waited for.

    Args:
      rounds: at most so many, and no more after `limit` seconds, but at least three.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begin > limit:
            break
        for name, call in calls.items():
            seconds[name].append(stopwatch(call))
    return {name: Timing.of(values) for name, values in seconds.items()}


def stopwatch(call: Callable[[], Any]) -> float:
    """Seconds until what a call returns is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def compiled(function: Callable, *args: Any) -> tuple[Any, float]:
    """(executable, seconds of tracing and compiling); the benchmarks run without the
    persistent compilation cache.
    """
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
        "memory_gib": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        ),
        "devices": [str(d.device_kind) for d in jax.devices()],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "allocator": os.environ.get("GLIBC_TUNABLES", "as it comes"),
    }
