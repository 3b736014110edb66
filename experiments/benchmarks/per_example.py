"""What per-example perturbations cost, against plain SAM on the same batch.

The ways to a gradient of groups of m, each compiled as a whole:

    implicit    no perturbed weights (core.implicit)
    vmap        all groups at once, each with a copy of the weights
    chunked     vmap over a quarter of the groups at a time (not for the ResNets)
    one by one  one group at a time
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import networks, rows, timing
from sam_jax.core import groups, implicit, trees
from sam_jax.core.gradient import SWAPS, loss_gradient, sharpness_aware_gradient
from sam_jax.core.implicit import clipped_gradient
from sam_jax.core.objective import Objective

# network, batch, m, most time over that of plain SAM; None where there is no goal
CASES = (
    ("MLP 784-1024-1024-10", 32, 1, None),
    ("MLP 784-1024-1024-10", 128, 1, 0.60),
    ("MLP 784-1024-1024-10", 512, 1, None),
    ("MLP 784-1024-1024-10", 128, 4, 0.85),
    ("conv net 28x28", 128, 1, 1.05),
    ("ResNet-18 w16 8x8", 128, 1, 1.15),
    ("ResNet-18 w16 32x32", 64, 1, 1.5),
    ("encoder d128, 64 tokens", 16, 1, None),
    ("ViT-Ti/4 28x28", 16, 1, 1.4),
    ("GPT d256, 4 layers", 16, 1, 1.5),
)
MEMORY_GOAL, SWAP_GOAL, DEPTH_GOAL = 3.0, 1.05, 1.2
RHO = 0.1
MOST_COPIES = 2 * 2**30  # bytes of perturbed weights that vmap may hold here

# network, batch, most time of a clipped gradient over that of a plain one
CLIPPED = (
    ("MLP 784-1024-1024-10", 128, 1.6),
    ("conv net 28x28", 128, 1.6),
    ("encoder d128, 64 tokens", 16, None),
    ("GPT d256, 4 layers", 16, 1.6),
)

Gradient = Callable[[Any, Any], Any]


def against_sam() -> list[rows.Row]:
    """Every way over plain SAM: time, temporary memory, time to compile."""
    return [row for case in CASES for row in _one_case(*case)]


def swaps() -> list[rows.Row]:
    """Direction and derivative of the whole batch over plain SAM."""
    problem = networks.make("ResNet-18 w16 8x8", 128)
    functions = {"SAM": sam(problem), **{s: sam(problem, swap=s) for s in SWAPS}}
    timings = timing.alternate(bound(functions, problem), rounds=20)
    return [
        rows.compare(
            f"{swap} / SAM, ResNet-18 w16 8x8, batch 128",
            timings,
            swap,
            "SAM",
            goal=SWAP_GOAL,
        )
        for swap in SWAPS
    ]


def clipping() -> list[rows.Row]:
    """The mean of clipped gradients of single examples over the plain gradient."""
    measured = []
    for name, n, goal in CLIPPED:
        problem = networks.make(name, n)
        functions = {
            "ERM": erm(problem),
            "clipped": lambda p, b, of=problem.objective: clipped_gradient(of, p, b, 1),
            "vmap": functools.partial(_clipped_by_vmap, problem.objective),
        }
        made = {
            way: timing.compiled(function, problem.params, problem.batch)
            for way, function in functions.items()
        }
        executables = {way: executable for way, (executable, _) in made.items()}
        calls = bound(executables, problem)
        pair = {way: calls[way] for way in ("ERM", "clipped")}
        # vmap apart: gigabytes of gradients between two calls slow the next one down.
        timings = {
            "clipped": timing.alternate(pair, rounds=40),
            "vmap": timing.alternate({w: calls[w] for w in ("ERM", "vmap")}, rounds=5),
        }
        memory = {way: timing.temporary_bytes(e) for way, e in executables.items()}
        measured += [
            rows.compare(
                f"{way} / ERM, {name}, batch {n}",
                timings[way],
                way,
                "ERM",
                goal=goal if way == "clipped" else None,
                memory=memory[way],
                baseline_memory=memory["ERM"],
                compile_seconds=made[way][1],
            )
            for way in ("clipped", "vmap")
        ]
    return measured


def _clipped_by_vmap(objective: Objective, params: Any, batch: Any) -> Any:
    """As it is usually written: all gradients, their norms, and a weighted mean."""
    pieces = groups.split(batch, groups.form(batch, 1).number)
    gradients = jax.vmap(jax.grad(objective.value), (None, 0))(params, pieces)
    norms = jax.vmap(trees.norm)(gradients)
    weights = jnp.minimum(1, 1 / norms) / len(norms)
    return jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), gradients)


def depth() -> list[rows.Row]:
    """Time to trace and compile 12 layers as a loop, over that of 2 layers."""
    problems = {layers: networks.make_gpt(layers, 4) for layers in (2, 12)}
    found = []
    for way, make in {"SAM": sam, "implicit": functools.partial(ours, m=1)}.items():
        seconds: dict[str, list[float]] = {f"{layers}": [] for layers in problems}
        for _ in range(timing.FEWEST_ROUNDS):
            for layers, problem in problems.items():
                jax.clear_caches()
                compiled = timing.compiled(make(problem), problem.params, problem.batch)
                seconds[f"{layers}"].append(compiled[1])
        timings = {name: timing.Timing.of(values) for name, values in seconds.items()}
        figure = f"12 layers / 2 layers, compiling {way}, GPT d256, batch 4"
        found.append(rows.compare(figure, timings, "12", "2", goal=DEPTH_GOAL))
    return found


def _one_case(name: str, n: int, m: int, goal: float | None) -> list[rows.Row]:
    problem = networks.make(name, n)
    functions = ways(problem, n, m)
    if "ResNet" in name:  # on CPU its chunks are unrolled: minutes to compile
        del functions["chunked"]
    made = {
        way: timing.compiled(function, problem.params, problem.batch)
        for way, function in functions.items()
    }
    executables = {way: executable for way, (executable, _) in made.items()}
    calls = bound(executables, problem)
    calls["one by one"] = one_by_one(problem, n, m)
    # Copies of the weights apart: after gigabytes of them the next call is slow.
    small = {way: calls[way] for way in ("SAM", "ERM", "implicit")}
    large = {way: call for way, call in calls.items() if way not in ("ERM", "implicit")}
    timings = dict.fromkeys(large, timing.alternate(large, rounds=10, limit=8.0))
    timings |= dict.fromkeys(small, timing.alternate(small, rounds=20, limit=12.0))
    memory = {way: timing.temporary_bytes(e) for way, e in executables.items()}
    return [
        rows.compare(
            f"{way} / SAM, {name}, batch {n}, m={m}",
            timings[way],
            way,
            "SAM",
            goal=goal if way == "implicit" else None,
            memory=memory.get(way),
            baseline_memory=memory["SAM"],
            memory_goal=MEMORY_GOAL if way == "implicit" else None,
            compile_seconds=made[way][1] if way in made else None,
        )
        for way in calls
        if way != "SAM"
    ]


def ways(problem: networks.Problem, n: int, m: int) -> dict[str, Gradient]:
    """SAM, ERM and the ways to groups of m; vmap where its copies fit."""
    chosen = {"SAM": sam(problem), "ERM": erm(problem), "implicit": ours(problem, m)}
    if n // m * weight_bytes(problem) <= MOST_COPIES:
        chosen["vmap"] = sam(problem, m=m)
    chosen["chunked"] = sam(problem, m=m, chunk=n // m // 4)
    return chosen


def erm(problem: networks.Problem) -> Gradient:
    """The gradient without any perturbation."""
    return lambda p, b: loss_gradient(problem.objective, p, b).gradient


def sam(problem: networks.Problem, **options: Any) -> Gradient:
    """The explicit path; plain SAM by default."""
    gradient = functools.partial(
        sharpness_aware_gradient, problem.objective, rho=jnp.float32(RHO), **options
    )
    return lambda p, b: gradient(p, b).gradient


def ours(problem: networks.Problem, m: int) -> Gradient:
    """The implicit path."""
    gradient = functools.partial(
        implicit.gradient, problem.objective, rho=jnp.float32(RHO), m=m
    )
    return lambda p, b: gradient(p, b).gradient


def one_by_one(problem: networks.Problem, n: int, m: int) -> Callable[[], Any]:
    """Plain SAM on one group after another, summed: a loop of compiled calls, since XLA
    is slow at convolutions in a compiled loop on CPU.
    """
    pieces = groups.split(problem.batch, n // m)
    parts = [jax.tree.map(lambda x, i=i: x[i], pieces) for i in range(n // m)]

    @functools.partial(jax.jit, donate_argnums=0)
    def accumulate(total, params, part):
        return jax.tree.map(jnp.add, total, sam(problem)(params, part))

    def call():
        total = jax.tree.map(jnp.zeros_like, problem.params)
        for part in parts:
            total = accumulate(total, problem.params, part)
        return total

    return call


def bound(
    functions: Mapping[str, Callable], problem: networks.Problem
) -> dict[str, Callable[[], Any]]:
    """Calls on the problem's parameters and batch; compiled unless they are already."""
    return {
        name: functools.partial(
            function if hasattr(function, "memory_analysis") else jax.jit(function),
            problem.params,
            problem.batch,
        )
        for name, function in functions.items()
    }


def weight_bytes(problem: networks.Problem) -> int:
    """What one copy of the weights takes."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(problem.params))
