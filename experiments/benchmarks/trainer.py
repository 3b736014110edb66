"""What `value_and_grad` costs a trainer, against a SAM step written out by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import sam_jax
from experiments.benchmarks import networks, rows, timing

GOAL = 1.02
RHO = 0.1


def against_hand_written() -> list[rows.Row]:
    """value_and_grad over jax.value_and_grad, a norm and jax.grad: <= 1.02."""
    measured = []
    for name in ("MLP 784-1024-1024-10", "conv net 28x28", "encoder d128, 64 tokens"):
        problem = networks.make(name, 128 if "encoder" not in name else 16)
        loss_fn = problem.objective.value
        functions = {
            "value_and_grad": sam_jax.value_and_grad(loss_fn, rho=RHO),
            "by hand": functools.partial(by_hand, loss_fn),
        }
        made = {
            way: timing.compiled(function, problem.params, problem.batch)
            for way, function in functions.items()
        }
        calls = {
            way: functools.partial(executable, problem.params, problem.batch)
            for way, (executable, _) in made.items()
        }
        memory = {way: timing.temporary_bytes(e) for way, (e, _) in made.items()}
        measured.append(
            rows.compare(
                f"value_and_grad / by hand, {name}",
                timing.alternate(calls, rounds=40),
                *functions,
                goal=GOAL,
                memory=memory["value_and_grad"],
                baseline_memory=memory["by hand"],
                compile_seconds=made["value_and_grad"][1],
            )
        )
    return measured


def by_hand(loss_fn: Any, params: Any, batch: Any) -> tuple[jax.Array, Any]:
    """SAM as it is written in a trainer."""
    value, gradient = jax.value_and_grad(loss_fn)(params, batch)
    squares = [jnp.sum(g**2) for g in jax.tree.leaves(gradient)]
    scale = RHO / (jnp.sqrt(sum(squares)) + 1e-12)
    there = jax.tree.map(lambda w, g: w + scale * g, params, gradient)
    return value, jax.grad(loss_fn)(there, batch)
