"""AutoAttack on the checkpoints of a run, by default in the norm and radius of its
training.
"""

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
    eps: float | None = None,
    norm: str | None = None,
    count: int | None = None,
    batch_size: int = 256,
    verbose: bool = False,
) -> list[Audit]:
    """The standard AutoAttack on a run's test images, at some of its checkpoints.

    Args:
      workdir: of the run.
      epochs: of checkpoints; None for all that there are.
      eps: radius of the attack, for images in [0, 1]; None for the run's attack.eps.
      norm: "linf" or "l2"; None for the run's attack.norm.
      count: the first so many test images; None for all.

    Raises: ConfigError for a run that was trained without attacks if no eps is given;
      CheckpointError for an epoch that has no checkpoint.
    """
    run = restore.read(workdir)
    settings = run.config.attack
    eps = settings.eps if eps is None else eps
    if eps == 0:
        raise ConfigError(
            f"{workdir} was trained with attack.eps=0; there is no radius to attack "
            "within. Give one of your own: eps=8 / 255."
        )
    images, labels, examples = held_out(run, count)
    found = []
    chosen = run.epochs() if epochs is None else epochs
    for epoch, state in zip(chosen, run.states(chosen), strict=True):
        result = attacks.auto_attack(
            network(run, state, examples),
            images,
            labels,
            eps=eps,
            norm=norm or settings.norm,
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
