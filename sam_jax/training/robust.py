"""Adversarial training: the attack on a batch, and the losses of pairs of images.

The attack is at w, before any ascent: ascent and descent both see the attacked batch,
as the paper's authors do it (App. D). It runs the network in train mode, so that
BatchNorm takes the statistics of the attacked batch, as the step itself will; running
statistics stay as they are, and are moved by the step's pass on the attacked images
alone. Evaluation attacks in evaluation mode, with running statistics.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax import losses
from sam_jax.attacks import geometry
from sam_jax.attacks.pgd import start_points
from sam_jax.ops import loops
from sam_jax.training.config import Config

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Predict = Callable[[jax.Array], jax.Array]

# TRADES starts at the image, where its loss has no slope, plus noise of this deviation.
TRADES_NOISE = 1e-3


@dataclasses.dataclass(frozen=True)
class Adversary:
    """PGD in the units of images in [0, 1].

    norm, eps: of the ball. steps, step_size, start: see `attacks.pgd`.
    trades: ascends KL(p(x) | p(x')) instead of the cross-entropy of the label.
    """

    norm: str
    eps: float
    steps: int
    step_size: float
    start: str
    trades: bool = False


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


class Pixels:
    """Images as the network takes them, and in [0, 1]."""

    def __init__(self, mean: Any, std: Any, scale: Any):
        """Args: mean, std: [channels], of stored images. scale: stored -> [0, 1]."""
        self._mean, self._std, self._scale = mean, std, scale

    def unit(self, normalized: jax.Array) -> jax.Array:
        """Normalised images in [0, 1]."""
        return jnp.clip((normalized * self._std + self._mean) * self._scale, 0, 1)

    def normalized(self, unit: jax.Array) -> jax.Array:
        """Images in [0, 1] as the network takes them."""
        return (unit / self._scale - self._mean) / self._std


def start(adversary: Adversary, keys: jax.Array, images: jax.Array) -> jax.Array:
    """Where an attack starts; each image by a key of its own.

    Args:
      keys: [b]. images: in [0, 1], [b, ...].
    """

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        if adversary.trades:
            noise = jax.random.normal(key, image.shape, image.dtype)
            return image + TRADES_NOISE * noise
        points = start_points(
            image[None], adversary.eps, key, adversary.norm, adversary.start
        )
        return points[0]

    points = jax.vmap(one)(keys, images)
    return geometry.into_ball(points, images, adversary.eps, adversary.norm)


def attack(
    adversary: Adversary,
    predict: Predict,
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """Attacked images, [b, ...] in [0, 1]. The label's cross-entropy is ascended
    whatever loss is trained on; with `trades`, the divergence from the clean outputs.

    Args:
      predict: images in [0, 1] -> logits.
    """
    begin = start(adversary, keys, images)
    clean = predict(images) if adversary.trades else None

    def total(points: jax.Array) -> jax.Array:
        logits = predict(points)
        if clean is None:
            return jnp.sum(losses.cross_entropy(logits, labels))
        return jnp.sum(divergence(jax.lax.stop_gradient(clean), logits))

    slope = jax.grad(total)
    return loops.repeat(
        adversary.steps,
        lambda _, points: step(adversary, slope(points), points, images),
        begin,
    )


def step(
    adversary: Adversary, gradient: jax.Array, points: jax.Array, images: jax.Array
) -> jax.Array:
    """One step of PGD: along the gradient's direction, then into ball and [0, 1]."""
    direction = geometry.NORMS[adversary.norm].direction(gradient)
    points = points + adversary.step_size * direction
    return geometry.into_ball(points, images, adversary.eps, adversary.norm)


def divergence(clean: jax.Array, attacked: jax.Array) -> jax.Array:
    """KL(p | p') of softmax probabilities, [b]."""
    log_p, log_q = jax.nn.log_softmax(clean), jax.nn.log_softmax(attacked)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def pairing_loss(loss: Loss, weight: Any) -> Loss:
    """loss(f(x_adv), y) + weight |f(x_adv) - f(x')|^2, f the logits (Eq. 21).

    Args:
      weight: lambda, f[].

    Returns: function of outputs [b, 2, classes], f(x_adv) and f(x'), with x' the image
      in another augmentation.
    """

    def paired(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        attacked, other = outputs[:, 0], outputs[:, 1]
        return loss(attacked, labels) + weight * jnp.sum((attacked - other) ** 2, -1)

    return paired


def trades_loss(loss: Loss, beta: float) -> Loss:
    """loss(f(x), y) + beta KL(p(x) | p(x_adv)) (Zhang et al. 2019, Eq. 5).

    Returns: function of outputs [b, 2, classes], f(x_adv) and f(x).
    """

    def paired(outputs: jax.Array, labels: jax.Array) -> jax.Array:
        attacked, clean = outputs[:, 0], outputs[:, 1]
        return loss(clean, labels) + beta * divergence(clean, attacked)

    return paired
