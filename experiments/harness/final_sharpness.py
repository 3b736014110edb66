"""How sharp trained networks are, on the first training examples of each run."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.harness.claims import Arrays
from experiments.harness.runs import TrainedRun, once
from sam_jax import sharpness
from sam_jax.analysis import networks, restore

# Those that Andriushchenko et al. 2023 compare, and two of the Hessian.
MEASURES = {
    "single": "worst-case rise of the loss, m = 1",
    "batch": "worst-case rise of the loss, one ball for all",
    "adaptive": "adaptive worst-case rise of the loss",
    "average": "average-case rise of the loss",
    "eigenvalue": "largest eigenvalue of the Hessian",
    "trace": "trace of the Hessian",
}
MEASURED = "sharpness.json"  # what was measured, in the folder of a run


@dataclasses.dataclass(frozen=True)
class Options:
    """examples: to measure on. rho, adaptive_rho, average_rho: radii of the worst case,
    of the element-wise one, and deviation of the random one. climb: ascent steps; one
    for m = 1. lanczos: products for the eigenvalue. samples: of random directions.
    """

    examples: int = 128
    rho: float = 0.1
    adaptive_rho: float = 0.5
    average_rho: float = 0.01
    climb: int = 10
    lanczos: int = 12
    samples: int = 10


def measure(
    trained: Mapping[str, Sequence[TrainedRun]], options: Options = Options()
) -> Arrays:
    """Every measure of every run's last weights: key_measure f[S], and key_failed b[S].

    Without the penalty, with the labels given, as in evaluation. A run that has failed
    has zeros.

    Args:
      trained: of every method, by key, its runs; all of them of one network.
    """
    arrays: dict[str, np.ndarray] = {}
    for key, several in trained.items():
        rows = [
            of_run(one.workdir, options) if one.summary else [0.0] * len(MEASURES)
            for one in several
        ]
        for name, values in zip(MEASURES, np.array(rows).T, strict=True):
            arrays[f"{key}_{name}"] = values
        arrays[f"{key}_failed"] = np.array([not one.summary for one in several])
    return arrays


def of_run(workdir: pathlib.Path, options: Options = Options()) -> list[float]:
    """The measures of a run's last weights, in the order of MEASURES.

    Measured once, and kept in its folder: its weights need not be there for ever.
    """

    def measure() -> list[float]:
        run = restore.read(workdir)
        (state,) = run.states(run.epochs()[-1:])
        objective = networks.evaluation_objective(run, state, 0.0)
        batch = networks.training_batch(run, options.examples)
        return _of_point((objective, state.params, batch), options)

    return once(workdir / MEASURED, dataclasses.asdict(options), measure)


def _of_point(point: tuple[Any, Any, Any], options: Options) -> list[float]:
    """The measures, in the order of MEASURES."""
    keys = jax.random.split(jax.random.key(0), 3)
    rho, steps, wide = options.rho, options.climb, options.adaptive_rho
    single = sharpness.worst_case(*point, rho=rho, m=1, method="one_step")
    batch = sharpness.worst_case(*point, rho=rho, steps=steps)
    adaptive = sharpness.worst_case(*point, rho=wide, steps=steps, adaptive=True)
    average = sharpness.average_case(
        *point, keys[0], rho=options.average_rho, samples=options.samples
    )
    top = sharpness.top_eigenvalues(*point, keys[1], steps=options.lanczos)
    trace, _ = sharpness.trace(*point, keys[2], samples=options.samples)
    return [single.loss, batch.loss, adaptive.loss, average.loss, float(top[0]), trace]
