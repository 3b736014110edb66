"""Adversarial training: the attack of config.attack, and losses of pairs of images.

The attack is at w, before any ascent: ascent and descent both see the attacked batch,
as the paper's authors do it (App. D). It runs the network in train mode, so that
BatchNorm takes the statistics of the attacked batch, as the step itself will; running
statistics stay as they are, and are moved by the step's pass on the attacked images
alone. Evaluation attacks in evaluation mode, with running statistics.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax import losses
from sam_jax.attacks.adversary import Adversary
from sam_jax.training.configuration import Config

Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Pair(NamedTuple):
    """Two images of every example, or the network's logits of both.

    attacked: the attacked image. other: the clean one in TRADES, or, for the pairing
    term, the clean one in another augmentation.
    """

    attacked: jax.Array
    other: jax.Array


PairLoss = Callable[[Pair, jax.Array], jax.Array]


def training_adversary(settings: Config) -> Adversary | None:
    """The attack of a training step, by config.attack; None for clean training."""
    if settings.kind == "none":
        return None
    return Adversary(
        settings.norm,
        settings.eps,
        settings.steps,
        settings.step_size or 2 * settings.eps / settings.steps,
        settings.start,
        settings.kind == "trades",
    )


def evaluation_adversary(settings: Config) -> Adversary | None:
    """The attack of an evaluation, by config.attack; None for none."""
    if settings.eval_steps == 0:
        return None
    return Adversary(
        settings.norm,
        settings.eps,
        settings.eval_steps,
        settings.eval_step_size or settings.eps / 4,
        settings.start,
    )


def pairing_loss(loss: Loss, weight: Any) -> PairLoss:
    """loss(f(x_adv), y) + weight |f(x_adv) - f(x')|^2, f the logits (Eq. 21).

    Args:
      weight: lambda, f[].

    Returns: function of the pair f(x_adv) and f(x'), with x' the image in another
      augmentation, and the labels.
    """

    def paired(logits: Pair, labels: jax.Array) -> jax.Array:
        distance = jnp.sum((logits.attacked - logits.other) ** 2, -1)
        return loss(logits.attacked, labels) + weight * distance

    return paired


def trades_loss(loss: Loss, beta: float) -> PairLoss:
    """loss(f(x), y) + beta KL(p(x) | p(x_adv)) (Zhang et al. 2019, Eq. 5).

    Returns: function of the pair f(x_adv) and f(x), and the labels.
    """

    def paired(logits: Pair, labels: jax.Array) -> jax.Array:
        divergence = losses.divergence(logits.other, logits.attacked)
        return loss(logits.other, labels) + beta * divergence

    return paired
