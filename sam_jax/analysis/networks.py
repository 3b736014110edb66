"""Measuring the networks of earlier runs: sharpness, surfaces, gradient alignment, and
what ascents do to loss derivatives."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import output, sharpness
from sam_jax.analysis import restore
from sam_jax.core import implicit, trees
from sam_jax.core.objective import Objective, batch_size, l2_penalty
from sam_jax.training import step as steps
from sam_jax.training.configuration import ConfigError
from sam_jax.training.examples import Examples
from sam_jax.training.network import evaluation_logits
from sam_jax.training.state import State

Tree = Any


@dataclasses.dataclass(frozen=True)
class Cosines:
    """epochs: of the checkpoints, i[C]. true, noisy: cosines of `sharpness.alignment`,
    means over batches, f[C, 2]: at w and at the SAM point.
    """

    epochs: np.ndarray
    true: np.ndarray
    noisy: np.ndarray


def alignment_over_training(
    workdir: output.Path, *, rho: float, batches: int
) -> Cosines:
    """The cosines of Fig. 3 at every checkpoint of a run.

    On batches of the run's own size, in training mode (BatchNorm with the batch's
    statistics) as the run has taken its steps, but not augmented.

    Args:
      rho: radius of the SAM point. batches: how many to average over, at most.
    """
    run = restore.read(workdir)
    size, setup = run.config.batch_size, run.setup
    count = min(batches, len(setup.train) // size)
    chosen = setup.train[: count * size].reshape(count, size)

    @jax.jit
    def cosines(state: State, examples: Examples, indices: jax.Array):
        objective = steps.make_objective(
            setup.module, state.batch_stats, setup.loss, jnp.zeros(())
        )
        batch = examples.batch(indices)
        true = examples.true[indices]
        return sharpness.alignment(objective, state.params, batch, true, rho)

    epochs, rows = run.epochs(), []
    fed = list(run.feed((batch,) for batch in chosen))
    for state in run.states(epochs):
        met = [jax.device_get(cosines(state, given, *batch)) for given, batch in fed]
        rows.append(np.mean(met, axis=0))
    true, noisy = np.moveaxis(np.array(rows), 1, 0)
    return Cosines(np.array(epochs), true, noisy)


@dataclasses.dataclass(frozen=True)
class WeightsOverTraining:
    """epochs: of the checkpoints, i[C]. clean, noisy, lowered: of `sharpness.weights`
    for each ascent, means over batches, f[C, A, 2] and f[C, A].
    """

    epochs: np.ndarray
    clean: np.ndarray
    noisy: np.ndarray
    lowered: np.ndarray


def weights_over_training(
    workdir: output.Path, *, rho: float, groups: Sequence[int], batches: int
) -> WeightsOverTraining:
    """What ascents of one radius do to the loss derivatives, at every checkpoint.

    Ascents: for groups of every size m of `groups`, 0 for the batch; then that of
    another batch (MaxSum); then a random direction. Of the loss without the penalty.

    Args:
      batches: how many to average over, at most; the batch after one is its other one.
    """
    run = restore.read(workdir)
    size, setup = run.config.batch_size, run.setup
    count = min(batches, len(setup.train) // size)
    chosen = setup.train[: count * size].reshape(count, size)

    @jax.jit
    def measure(state: State, examples: Examples, indices: jax.Array, other: jax.Array):
        objective = steps.make_objective(
            setup.module, state.batch_stats, setup.loss, jnp.zeros(())
        )
        batch, key = (
            examples.batch(indices),
            jax.random.fold_in(jax.random.key(0), indices[0]),
        )
        pairs = _ascents(
            objective, state.params, batch, examples.batch(other), key, rho, groups
        )
        wrong = batch["labels"] != examples.true[indices]
        found = [sharpness.weights(*pair, batch["labels"], wrong) for pair in pairs]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *found)

    epochs, rows = run.epochs(), []
    fed = list(run.feed(zip(chosen, np.roll(chosen, -1, 0), strict=True)))
    for state in run.states(epochs):
        met = [jax.device_get(measure(state, given, *both)) for given, both in fed]
        rows.append(jax.tree.map(lambda *parts: np.mean(parts, 0), *met))
    return WeightsOverTraining(
        np.array(epochs),
        *(np.stack([getattr(row, name) for row in rows]) for name in rows[0]._fields),
    )


def _ascents(
    objective: Objective,
    params: Tree,
    batch: Tree,
    other: Tree,
    key: jax.Array,
    rho: float,
    groups: Sequence[int],
) -> list[tuple[jax.Array, jax.Array]]:
    """Logits at w and where each ascent of `weights_over_training` ends."""
    size = batch_size(batch)
    found = [
        implicit.perturbed_outputs(objective, params, batch, rho=rho, m=m or size)
        for m in groups
    ]
    here, _ = objective.forward(params, batch)
    for direction in (
        jax.grad(objective.value)(params, other),
        trees.random_like(key, params),
    ):
        moved = trees.add_scaled(params, rho, trees.unit(direction))
        found.append((here, objective.forward(moved, batch)[0]))
    return found


def evaluation_objective(run: restore.Finished, state: State, l2: float) -> Objective:
    """The run's loss as a function of its weights alone: BatchNorm as in evaluation.

    Args:
      l2: of the penalty; 0 for the loss without it.
    """
    module, loss = run.setup.module, run.setup.loss

    def predict(params: Tree, batch: Tree) -> jax.Array:
        return evaluation_logits(module, params, state.batch_stats, batch["images"])

    return Objective(
        predict,
        lambda logits, batch: loss(logits, batch["labels"]),
        l2_penalty(l2) if l2 else None,
    )


def training_batch(run: restore.Finished, count: int) -> dict[str, Any]:
    """The first `count` training examples with the labels given, as one batch."""
    chosen = run.setup.train[:count]
    if len(chosen) < count:
        raise ConfigError(
            f"Received {count} examples to measure on; the run trained on "
            f"{len(chosen)}. Ask for as many or fewer."
        )
    ((examples, (places,)),) = run.feed([(chosen,)])
    return examples.batch(places)


def evaluate_anew(run: restore.Finished, state: State) -> Callable[[Tree], dict]:
    """params -> losses and errors on all setup, BatchNorm's statistics made anew.

    Weights between two networks have activations that no statistics followed.
    """
    setup = run.setup

    def figures(params: Tree) -> dict[str, float]:
        params = setup.layout.replicate(params)
        stats = setup.layout.replicate(state.batch_stats)
        fresh = setup.fresh_statistics(params, stats, setup.examples)
        return setup.evaluate(params, fresh, setup.examples)

    return figures
