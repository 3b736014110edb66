"""PGD as a part of a compiled step: every image by a key of its own, any device.

`attacks.pgd` is the attack on a batch of images from outside. This is the same attack
for adversarial training and its evaluation, where one program attacks and trains, and
where the images must not depend on the number of devices.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sam_jax import losses
from sam_jax.attacks import geometry
from sam_jax.attacks.pgd import start_points, step
from sam_jax.ops import loops

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

    def begin(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Where the attack starts.

        Args:
          keys: [b]. images: in [0, 1], [b, ...].
        """

        def one(key: jax.Array, image: jax.Array) -> jax.Array:
            if self.trades:
                noise = jax.random.normal(key, image.shape, image.dtype)
                return image + TRADES_NOISE * noise
            points = start_points(image[None], self.eps, key, self.norm, self.start)
            return points[0]

        points = jax.vmap(one)(keys, images)
        return geometry.into_ball(points, images, self.eps, self.norm)

    def move(
        self, gradient: jax.Array, points: jax.Array, images: jax.Array
    ) -> jax.Array:
        """One step of ascent, of the size that the adversary has."""
        return step(points, gradient, images, self.eps, self.step_size, self.norm)

    def attack(
        self, predict: Predict, keys: jax.Array, images: jax.Array, labels: jax.Array
    ) -> jax.Array:
        """Attacked images, [b, ...] in [0, 1]. The label's cross-entropy is ascended
        whatever loss is trained on; with `trades`, the divergence from clean outputs.

        Args:
          predict: images in [0, 1] -> logits.
        """
        clean = predict(images) if self.trades else None

        def total(points: jax.Array) -> jax.Array:
            logits = predict(points)
            if clean is None:
                return jnp.sum(losses.cross_entropy(logits, labels))
            return jnp.sum(losses.divergence(jax.lax.stop_gradient(clean), logits))

        slope = jax.grad(total)
        return loops.repeat(
            self.steps,
            lambda _, points: self.move(slope(points), points, images),
            self.begin(keys, images),
        )
