"""AutoAttack on the checkpoints of a run, in the norm and radius of its training."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from sam_jax import attacks, output
from sam_jax.analysis import restore
from sam_jax.training import setup
from sam_jax.training.configuration import ConfigError
from sam_jax.training.examples import Examples, Pixels
from sam_jax.training.network import evaluation_logits
from sam_jax.training.state import State


class Audit(NamedTuple):
    """epoch: of the checkpoint. result: of AutoAttack on the test images."""

    epoch: int
    result: attacks.AutoAttack


def auto_attack(
    workdir: output.Path,
    epochs: list[int] | None = None,
    *,
    count: int | None = None,
    batch_size: int = 256,
    verbose: bool = False,
) -> list[Audit]:
    """The standard AutoAttack on a run's test images, at some of its checkpoints.

    Args:
      workdir: of the run, whose config has attack.eps and attack.norm.
      epochs: of checkpoints; None for all that there are.
      count: the first so many test images; None for all.

    Raises: ConfigError for a run without a radius, CheckpointError for an epoch that
      has no checkpoint.
    """
    run = restore.read(workdir)
    settings = run.config.attack
    if settings.eps == 0:
        raise ConfigError(
            f"{workdir} was trained with attack.eps=0; there is no radius to attack "
            "within. Use `sam_jax.attacks.auto_attack` with one of your own."
        )
    images, labels, examples = held_out(run, count)
    found = []
    chosen = run.epochs() if epochs is None else epochs
    for epoch, state in zip(chosen, run.states(chosen), strict=True):
        result = attacks.auto_attack(
            network(run, state, examples),
            images,
            labels,
            eps=settings.eps,
            norm=settings.norm,
            key=jax.random.key(run.config.seed),
            batch_size=batch_size,
            verbose=verbose,
        )
        found.append(Audit(epoch, result))
    return found


def held_out(
    run: restore.Finished, count: int | None = None
) -> tuple[jax.Array, np.ndarray, Examples]:
    """A run's first test images in [0, 1], their labels, and examples that say how the
    network takes them.

    Args:
      count: how many; None for all.
    """
    _, parts, _ = setup.load_examples(run.config, run.dataset)
    ((examples, (places,)),) = run.feed([(parts["test"][:count],)])
    images = jnp.asarray(examples.images[places]) * examples.scale
    return images, np.asarray(examples.given[places]), examples


def network(run: restore.Finished, state: State, examples: Examples) -> Partial:
    """The network of a checkpoint as an attack takes it, in evaluation mode."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return Partial(_predict(run.setup.module), variables, examples.pixels)


@functools.lru_cache(maxsize=4)
def _predict(module: nn.Module) -> Callable[..., jax.Array]:
    """One function a network, so that attacks on its checkpoints compile once."""

    def predict(variables: Any, pixels: Pixels, images: jax.Array) -> jax.Array:
        images = pixels.normalized(images)
        return evaluation_logits(module, **variables, images=images)

    return predict
