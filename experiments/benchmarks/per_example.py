"""What per-example perturbations cost, against plain SAM on the same batch."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import networks, timing
from sam_jax.core import implicit
from sam_jax.core.gradient import sharpness_aware_gradient

Row = dict[str, Any]
# network, batch, m, most seconds over those of plain SAM; None where there is no goal
CASES = (
    ("MLP 784-1024-1024-10", 32, 1, None),
    ("MLP 784-1024-1024-10", 128, 1, 0.60),
    ("MLP 784-1024-1024-10", 512, 1, None),
    ("MLP 784-1024-1024-10", 128, 4, 0.85),
    ("conv net 28x28", 128, 1, 1.05),
    ("ResNet-18 w16 8x8", 128, 1, 1.15),
    ("ResNet-18 w16 32x32", 64, 1, 1.5),
    ("encoder d128, 64 tokens", 16, 1, None),
)
MEMORY_GOAL, SWAP_GOAL = 3.0, 1.05


def against_sam() -> list[Row]:
    """Implicit, and vmap where its copies fit, over plain SAM: seconds and memory."""
    rows = []
    for name, n, m, goal in CASES:
        problem = networks.make(name, n)
        sam, ours = methods(problem, m)["SAM"], methods(problem, m)["implicit"]
        calls = {"SAM": compiled(sam, problem), "implicit": compiled(ours, problem)}
        heavy = "32x32" in name
        if not heavy and n <= 128:
            calls["vmap"] = compiled(methods(problem, m)["vmap"], problem)
        rows += compare(f"{name}, batch {n}, m={m}", calls, problem, goal, heavy)
    return rows


def swaps() -> list[Row]:
    """Direction and derivative of the whole batch over plain SAM."""
    problem = networks.make("ResNet-18 w16 8x8", 128)
    calls = {"SAM": compiled(methods(problem, 1)["SAM"], problem)}
    for kind in ("direction", "derivative"):
        calls[kind] = compiled(plain(problem, kind=kind), problem)
    timings = time(calls, problem, rounds=10)
    return [
        {
            "figure": f"{kind} / SAM, ResNet-18 w16 8x8, batch 128",
            **ratios(timings, kind),
            "goal": SWAP_GOAL,
        }
        for kind in ("direction", "derivative")
    ]


def methods(problem: networks.Problem, m: int) -> dict[str, Callable]:
    """Gradient functions of (params, batch)."""
    ours = functools.partial(implicit.gradient, problem.objective, m=m)
    return {
        "SAM": plain(problem),
        "implicit": lambda p, b: ours(p, b, rho=jnp.float32(0.1)).gradient,
        "vmap": plain(problem, m=m),
    }


def plain(problem: networks.Problem, **options: Any) -> Callable:
    """The explicit path."""
    gradient = functools.partial(
        sharpness_aware_gradient, problem.objective, rho=jnp.float32(0.1), **options
    )
    return lambda p, b: gradient(p, b).gradient


def compiled(function: Callable, problem: networks.Problem) -> Any:
    return jax.jit(function).lower(problem.params, problem.batch).compile()


def time(calls: dict, problem: networks.Problem, rounds: int) -> dict:
    return timing.alternate(
        {
            name: functools.partial(call, problem.params, problem.batch)
            for name, call in calls.items()
        },
        rounds=rounds,
    )


def ratios(timings: dict, name: str) -> Row:
    a, b = timings[name], timings["SAM"]
    return {
        "ratio": a.median / b.median,
        "ratio_of_minima": a.minimum / b.minimum,
        "seconds": a.median,
        "baseline_seconds": b.median,
    }


def compare(
    what: str, calls: dict, problem: networks.Problem, goal: float | None, heavy: bool
) -> list[Row]:
    timings = time(calls, problem, rounds=4 if heavy else 10)
    memory = {name: timing.temporary_bytes(call) for name, call in calls.items()}
    rows = []
    for name in calls:
        if name != "SAM":
            implicit_goal = goal if name == "implicit" else None
            row = {"figure": f"{name} / SAM, {what}", **ratios(timings, name)}
            rows.append({**row, "goal": implicit_goal})
            rows.append(
                {
                    "figure": f"temporary memory, {name} / SAM, {what}",
                    "ratio": memory[name] / memory["SAM"],
                    "ratio_of_minima": memory[name] / memory["SAM"],
                    "goal": MEMORY_GOAL if name == "implicit" else None,
                    "seconds": 0.0,
                    "baseline_seconds": 0.0,
                    "bytes": memory[name],
                    "baseline_bytes": memory["SAM"],
                }
            )
    return rows
