"""Flows and iterations on the diagonal network of Fig. 9, against loops of small steps.

The rival of the solver is Euler's method, w <- w - h grad, until the loss is as low:
once compiled, once in NumPy. Equal accuracy means that its error in h alone is the
whole error of the solver, the distance to the flow's limit. Its error is of first order
(`order` in a row, from two step sizes), so the steps it needs are known; their number
times the seconds of one is its time. Where those are few millions they are also run
once from start to end (`whole_seconds`, `whole_error`); in NumPy they never are.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks import rows, timing
from sam_jax import flows
from sam_jax.toys import sparse_regression

ALPHA, RHO = 0.01, 0.1
RTOL = {"rtol": 1e-6, "atol": 1e-10}  # what is left of the loss is the larger error
EXACT = {"rtol": 1e-10, "atol": 1e-14}, 1e-22
STEPS = (0.04, 0.02)  # of Euler's method, where its error is measured
FEW = 10_000_000  # iterations that are run whole
COMPILED, NUMPY = 20_000, 500  # iterations that are timed
EULER_GOAL, NUMPY_GOAL, ITERATION_GOAL = 1 / 30, 1 / 500, 1 / 200
PROBLEM = sparse_regression.sample(0)
Weights = tuple[np.ndarray, np.ndarray]


class Accuracy(NamedTuple):
    """ours: relative distance of the solver's end to the limit. order: of Euler's error
    in h. h: its step for an error of `ours`. iterations: until the same loss.
    """

    ours: float
    order: float
    h: float
    iterations: int


@jax.enable_x64(True)
def against_loops() -> list[rows.Row]:
    """Solving a flow, and iterating SumMax, over the seconds of their rivals."""
    return [row for kind in STEP for row in _compare(kind)]


def _compare(kind: str) -> Iterator[rows.Row]:
    stops = (1e-12, 1e-16)
    seconds = timing.alternate(
        {
            **{f"{stop:g}": functools.partial(solve, kind, stop) for stop in stops},
            "Euler": functools.partial(euler, kind, COMPILED, 0.01),
            "NumPy": functools.partial(numpy_loop, STEP[kind], NUMPY),
        },
        rounds=7,
    )
    step = {
        "Euler": scaled(seconds["Euler"], 1 / COMPILED),
        "NumPy": scaled(seconds["NumPy"], 1 / NUMPY),
    }
    for stop in stops:
        accuracy = compare_accuracy(kind, stop)
        for name, goal in (("Euler", EULER_GOAL), ("NumPy", NUMPY_GOAL)):
            rival = scaled(step[name], accuracy.iterations)
            few = name == "Euler" and accuracy.iterations <= FEW
            yield rows.compare(
                f"flow of {kind} to {accuracy.ours:.0e}: solve / {name} loop",
                {"solve": seconds[f"{stop:g}"], name: rival},
                "solve",
                name,
                goal=goal,
                **accuracy._asdict(),
                **(whole(kind, stop, accuracy) if few else {}),
            )
    if kind == "sum_max":
        what = "one iteration of SumMax / NumPy loop over examples"
        yield rows.compare(what, step, "Euler", "NumPy", goal=ITERATION_GOAL)


def solve(kind: str, stop: float, **options: Any) -> flows.Solution:
    chosen = {"alpha": ALPHA, "rho": RHO, "stop_loss": stop} | RTOL | options
    return flows.solve(PROBLEM.x, PROBLEM.y, kind=kind, **chosen)


def euler(kind: str, iterations: int, h: float) -> jax.Array:
    """beta after the compiled loop, [1, d]."""
    return flows.iterate(
        PROBLEM.x,
        PROBLEM.y,
        flows.Method(kind),
        times=np.asarray([iterations]),
        alpha=ALPHA,
        rho=RHO,
        step_size=h,
    ).betas


def compare_accuracy(kind: str, stop: float) -> Accuracy:
    """What Euler's method needs to be as accurate as the solver."""
    ours = solve(kind, stop)
    end, error = float(ours.end), distance(ours.beta, exact(kind, None))
    there = exact(kind, end)  # where as much of the loss is left for both
    a, b = (distance(euler(kind, round(end / h), h)[0], there) for h in STEPS)
    order = float(np.log(a / b) / np.log(STEPS[0] / STEPS[1]))
    h = STEPS[1] * error / b
    return Accuracy(error, order, h, round(end / h))


def exact(kind: str, t: float | None) -> jax.Array:
    """beta(t) of the same flow by tighter tolerances; None for the limit."""
    tolerances, stop = EXACT
    if t is None:
        return solve(kind, stop, **tolerances).beta
    return solve(kind, stop, **tolerances, times=np.asarray([t])).betas[0]


def whole(kind: str, stop: float, accuracy: Accuracy) -> dict[str, float]:
    """Euler's method run once from start to end."""
    start = time.perf_counter()
    beta = jax.block_until_ready(euler(kind, accuracy.iterations, accuracy.h))[0]
    seconds = time.perf_counter() - start
    there = exact(kind, accuracy.iterations * accuracy.h)
    return {"whole_seconds": seconds, "whole_error": distance(beta, there)}


def scaled(measured: timing.Timing, factor: float) -> timing.Timing:
    """The seconds of so many times as much of the same."""
    return measured._replace(
        median=factor * measured.median, minimum=factor * measured.minimum
    )


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b))


def numpy_loop(
    step: Callable[[np.ndarray, np.ndarray, Weights], Weights],
    iterations: int,
) -> np.ndarray:
    """Euler's method, one NumPy step after the other."""
    weights = (np.full(PROBLEM.x.shape[1], ALPHA),) * 2
    for _ in range(iterations):
        slope = step(PROBLEM.x, PROBLEM.y, weights)
        weights = weights[0] - 0.01 * slope[0], weights[1] - 0.01 * slope[1]
    return weights[0] ** 2 - weights[1] ** 2


def slope(x: np.ndarray, y: np.ndarray, weights: Weights) -> Weights:
    plus, minus = weights
    pull = (x @ (plus**2 - minus**2) - y) @ x / len(y)
    return pull * plus, -pull * minus


def max_sum(x: np.ndarray, y: np.ndarray, weights: Weights) -> Weights:
    """Eq. 10, all examples at once."""
    up = slope(x, y, weights)
    return slope(x, y, (weights[0] + RHO * up[0], weights[1] + RHO * up[1]))


def sum_max(x: np.ndarray, y: np.ndarray, weights: Weights) -> Weights:
    """Eq. 11, a loop over examples."""
    total = np.zeros((2, x.shape[1]))
    for i in range(len(y)):
        total += max_sum(x[i : i + 1], y[i : i + 1], weights)
    return total[0] / len(y), total[1] / len(y)


STEP = {"max_sum": max_sum, "sum_max": sum_max}
