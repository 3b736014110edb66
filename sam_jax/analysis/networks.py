"""Measuring the networks of earlier runs: sharpness, surfaces, gradient alignment."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import data, output, sharpness
from sam_jax.analysis import restore
from sam_jax.core import trees
from sam_jax.core.objective import Objective
from sam_jax.training import step as steps
from sam_jax.training.config import ConfigError
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
    size, parts = run.config.batch_size, run.parts
    count = min(batches, len(parts.train) // size)
    chosen = parts.train[: count * size].reshape(count, size)

    @jax.jit
    def cosines(state: State, examples: steps.Examples, indices: jax.Array):
        objective = steps.make_objective(
            parts.module, state.batch_stats, parts.loss, jnp.zeros(())
        )
        batch = load(examples, indices)
        true = examples.true[indices]
        return sharpness.alignment(objective, state.params, batch, true, rho)

    epochs, rows = run.epochs(), []
    examples = parts.layout.fetch(parts.examples)
    for state in run.states(epochs):
        met = [jax.device_get(cosines(state, examples, batch)) for batch in chosen]
        rows.append(np.mean(met, axis=0))
    true, noisy = np.moveaxis(np.array(rows), 1, 0)
    return Cosines(np.array(epochs), true, noisy)


def load(examples: steps.Examples, indices: Any) -> dict[str, Any]:
    """Images, normalised and not augmented, with the labels given."""
    images = jnp.asarray(examples.images)[indices]
    return {
        "images": data.normalize(images, examples.mean, examples.std),
        "labels": jnp.asarray(examples.given)[indices],
    }


def evaluation_objective(run: restore.Finished, state: State, l2: float) -> Objective:
    """The run's loss as a function of its weights alone: BatchNorm as in evaluation.

    Args:
      l2: of the penalty; 0 for the loss without it.
    """
    module, loss = run.parts.module, run.parts.loss

    def predict(params: Tree, batch: Tree) -> jax.Array:
        variables = {"params": params, "batch_stats": state.batch_stats}
        return module.apply(variables, batch["images"], train=False)

    def penalty(params: Tree) -> jax.Array:
        return 0.5 * l2 * trees.dot(params, params)

    return Objective(
        predict,
        lambda logits, batch: loss(logits, batch["labels"]),
        penalty if l2 else None,
    )


def training_batch(run: restore.Finished, count: int) -> dict[str, Any]:
    """The first `count` training examples with the labels given, as one batch."""
    chosen = run.parts.train[:count]
    if len(chosen) < count:
        raise ConfigError(
            f"Received {count} examples to measure on; the run trained on "
            f"{len(chosen)}. Ask for as many or fewer."
        )
    return load(run.parts.layout.fetch(run.parts.examples), chosen)


def evaluate_anew(run: restore.Finished, state: State) -> Callable[[Tree], dict]:
    """params -> losses and errors on all parts, BatchNorm's statistics made anew.

    Weights between two networks have activations that no statistics followed.
    """
    parts = run.parts

    def figures(params: Tree) -> dict[str, float]:
        params = parts.layout.replicate(params)
        stats = parts.layout.replicate(state.batch_stats)
        fresh = parts.fresh_statistics(params, stats, parts.examples)
        return parts.evaluate(params, fresh, parts.examples)

    return figures
