"""How the price of per-example perturbations grows with the batch and with m."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import networks, per_example, timing
from sam_jax import plotting

Arrays = dict[str, np.ndarray]
MLP, CONV = "MLP 784-1024-1024-10", "conv net 28x28"
BATCH = 128
EXAMPLES = {MLP: (8, 16, 32, 64, 128, 256), CONV: (8, 16, 32, 64, 128)}
GROUPS = {MLP: (1, 2, 4, 8, 16, 32, 64, 128), CONV: (1, 4, 16, 64, 128)}
WAYS = ("implicit", "vmap")
NAMES = {MLP: "MLP", CONV: "conv net"}


def measure() -> Arrays:
    """Time and temporary memory over those of plain SAM on the same batch.

    Returns: for each network and each of "n" (at m = 1) and "m" (at n = 128), the
      values, and [2, values] ratios of time and of memory, implicit before vmap; 0
      stands where vmap's copies do not fit.
    """
    arrays: Arrays = {}
    for name in (MLP, CONV):
        by_n = [(n, 1) for n in EXAMPLES[name]]
        by_m = [(BATCH, m) for m in GROUPS[name]]
        for axis, settings in (("n", by_n), ("m", by_m)):
            key = f"{name}/{axis}"
            arrays[key] = np.array([{"n": n, "m": m}[axis] for n, m in settings])
            ratios = np.array([_ratios(name, n, m) for n, m in settings])
            arrays[f"{key}/time"], arrays[f"{key}/memory"] = np.moveaxis(ratios, 0, 2)
    return arrays


@functools.cache
def _ratios(name: str, n: int, m: int) -> tuple[Sequence[float], Sequence[float]]:
    """(time, memory) over plain SAM, each of implicit and of vmap."""
    problem = networks.make(name, n)
    every = per_example.ways(problem, n, m)
    chosen = {way: every[way] for way in ("SAM", *WAYS) if way in every}
    executables: dict[str, Any] = {
        way: jax.jit(function).lower(problem.params, problem.batch).compile()
        for way, function in chosen.items()
    }
    calls = per_example.bound(executables, problem)
    timings = timing.alternate(calls, rounds=10, limit=4.0)
    time = {way: t.median / timings["SAM"].median for way, t in timings.items()}
    memory = {way: timing.temporary_bytes(e) for way, e in executables.items()}
    return (
        [time.get(way, 0.0) for way in WAYS],
        [memory.get(way, 0) / memory["SAM"] for way in WAYS],
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """The curves: time against m, against the batch, and memory against the batch."""
    names = (MLP, CONV)
    figure, axes = plotting.panels(1, 3, width=3.6, height=3.0)
    panels = (
        ("m", "time", f"examples a group, m (batch {BATCH})", "time / plain SAM"),
        ("n", "time", "batch, m = 1", "time / plain SAM"),
        ("n", "memory", "batch, m = 1", "temporary memory / plain SAM"),
    )
    for panel, (axis, quantity, xlabel, ylabel) in zip(axes, panels, strict=True):
        for name, marker in zip(names, "os", strict=True):
            x = arrays[f"{name}/{axis}"]
            for way, color, ratio in zip(
                WAYS, plotting.COLORS, arrays[f"{name}/{axis}/{quantity}"], strict=False
            ):
                fits = ratio > 0
                label = f"{way}, {NAMES[name]}"
                panel.plot(
                    x[fits], ratio[fits], marker + "-", ms=4, color=color, label=label
                )
        panel.axhline(1, color="gray", linestyle=":")
        panel.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
    axes[0].legend(frameon=False, fontsize="small")
    return figure
