"""How sharp trained networks are, on the first training examples of each run."""

import dataclasses
import pathlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.harness.claims import Arrays
from experiments.harness.runs import Measurement, TrainedRun
from sam_jax import sharpness
from sam_jax.analysis import networks, restore
from sam_jax.core.objective import Objective
from sam_jax.training.state import State

# Those that Andriushchenko et al. 2023 compare, and two of the Hessian.
MEASURES = {
    "single": "worst-case rise of the loss, m = 1",
    "batch": "worst-case rise of the loss, one ball for all",
    "adaptive": "adaptive worst-case rise of the loss",
    "average": "average-case rise of the loss",
    "eigenvalue": "largest eigenvalue of the Hessian",
    "trace": "trace of the Hessian",
}
_OBJECTIVES: dict[Hashable, Objective] = {}


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


def measurement(options: Options = Options()) -> Measurement:
    """Of a run's last weights: the measures by name."""
    return Measurement("sharpness.json", of_weights, dataclasses.asdict(options))


def of_weights(workdir: pathlib.Path, **options: Any) -> dict[str, float]:
    """Every measure of a run's last weights: without the penalty, with the labels
    given, as in evaluation.

    Args:
      options: as `Options` has them.
    """
    chosen = Options(**options)
    run = restore.read(workdir)
    (state,) = run.states([run.config.epochs])
    batch = networks.training_batch(run, chosen.examples)
    found = _of_point((_objective(run, state), state.params, batch), chosen)
    return dict(zip(MEASURES, found, strict=True))


def collect(
    trained: Mapping[str, Sequence[TrainedRun]], options: Options = Options()
) -> Arrays:
    """Every measure of every run: key_measure f[S], and key_failed b[S].

    A run that has failed has zeros.

    Args:
      trained: of every method, by key, its runs.
    """
    arrays: dict[str, np.ndarray] = {}
    found, failed = measurement(options), dict.fromkeys(MEASURES, 0.0)
    for key, several in trained.items():
        rows = [found.of(one.workdir) if one.summary else failed for one in several]
        for name in MEASURES:
            arrays[f"{key}_{name}"] = np.array([row[name] for row in rows])
        arrays[f"{key}_failed"] = np.array([not one.summary for one in several])
    return arrays


def _objective(run: restore.Finished, state: State) -> Objective:
    """Of equal networks without statistics one: what is compiled for it serves all."""
    if jax.tree.leaves(state.batch_stats):
        return networks.evaluation_objective(run, state, 0.0)
    network = run.setup.module, run.config.loss.to_json()
    if network not in _OBJECTIVES:
        _OBJECTIVES[network] = networks.evaluation_objective(run, state, 0.0)
    return _OBJECTIVES[network]


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
