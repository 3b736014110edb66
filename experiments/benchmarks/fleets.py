"""A SAM step of many runs as one program (`sam_jax.training.fleet`), over one run's."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks import networks, rows, steps, timing
from sam_jax.core.gradient import sharpness_aware_gradient

RUNS = 16
BATCH = 128
RHO = 0.1


def against_one() -> list[rows.Row]:
    """16 runs at once over one: 16 is no gain. Grouped is what vmap makes of lax's
    convolutions, side by side what our networks have in a fleet.
    """
    measured = []
    for name in ("MLP 784-1024-1024-10", "conv net 28x28", "ResNet-18 w16 8x8"):
        calls = {"one": _step(networks.make(name, BATCH))}
        if "MLP" not in name:
            calls["grouped"] = _step(_many(networks.make(name, BATCH)), vmap=True)
        problem = _many(networks.make(name, BATCH, side_by_side=True))
        calls["side by side"] = _step(problem, vmap=True)
        timings = timing.alternate(calls, rounds=10)
        for way in list(calls)[1:]:
            figure = f"{RUNS} runs {way} / one, {name}, batch {BATCH}"
            measured.append(rows.compare(figure, timings, way, "one"))
    return measured


def _many(problem: networks.Problem) -> networks.Problem:
    """The same weights and examples for every run."""

    def repeat(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * RUNS), tree)

    return problem._replace(params=repeat(problem.params), batch=repeat(problem.batch))


def _step(problem: networks.Problem, vmap: bool = False) -> Any:
    rho = jnp.float32(RHO)
    gradient = functools.partial(sharpness_aware_gradient, problem.objective, rho=rho)
    return steps.training_step(jax.vmap(gradient) if vmap else gradient, problem)
