"""Losses and errors on the parts of the data, in one pass over all of it.

Parts overlap: `train` is `train_clean` and `train_noisy` together. A part without
examples is left out of the results.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sam_jax import losses, metrics
from sam_jax.attacks.adversary import Adversary
from sam_jax.training import feeds, parallel
from sam_jax.training.examples import Examples
from sam_jax.training.feeds import Streamed
from sam_jax.training.network import evaluation_logits, training_logits
from sam_jax.training.step import Loss

Tree = Any

ROBUST_PARTS = ("train", "validation", "test")


class Evaluator:
    """Evaluates weights on parts of the data.

    Labels are the given ones: noisy in training and validation. `train_noisy` is what
    noise changed; its `error_true` counts errors against the labels before the noise,
    so that error 1 with error_true 0 is a network that sees through all of it.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        layout: parallel.Layout,
        *,
        parts: Mapping[str, np.ndarray],
        batch_size: int,
        adversary: Adversary | None = None,
    ):
        """Compiles nothing yet.

        Args:
          module: called with (images, train).
          loss: (logits, labels) -> per-example losses.
          parts: name -> indices of examples.
          batch_size: over all devices.
          adversary: attacks the images for the robust error; None for none.
        """
        self._layout, self.adversary = layout, adversary
        self._attack = None
        if adversary is not None:
            self._attack = attack(module, layout, adversary)
        self._parts = {name: part for name, part in parts.items() if len(part)}
        used = np.unique(np.concatenate([*self._parts.values()]))
        needed = -(-len(used) // layout.shares) * layout.shares
        padded = _padded(used, min(batch_size, needed))
        self.batches = [(batch, self._members(batch, real)) for batch, real in padded]
        self._sums = mapped_sums(module, loss, layout)

    def _members(self, batch: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Which real examples of a batch are in which part, [batch, parts]."""
        found = [np.isin(batch, part) & real for part in self._parts.values()]
        return np.stack(found, 1)

    @property
    def form(self) -> tuple:
        """Names of parts and shapes of batches, equal for evaluators that
        `fleet_evaluation` may make one of.
        """
        return tuple(self._parts), [batch.shape for batch, _ in self.batches]

    def __call__(
        self, params: Tree, batch_stats: Tree, examples: Examples | Streamed
    ) -> dict[str, float]:
        """{"test_loss": ..., "test_error": ..., ...}, means over every part.

        Of text they are means over all tokens, and perplexity and bits per byte are
        beside them.
        """
        total = self._total(self._sums, examples, params, batch_stats)
        attacked = None
        if self._attack is not None:
            attacked = self._total(self._attack, examples, params, batch_stats)
        return self.figures(total, attacked)

    def figures(self, total: Any, attacked: Any = None) -> dict[str, float]:
        """Means by name, of sums over all batches, [parts].

        Args:
          total: of the images; attacked: of those that an adversary has moved, if any.
        """
        given, true = total["given"], total["true"]
        results: dict[str, float] = {}
        if attacked is not None:
            for i, name in enumerate(self._parts):
                if name in ROBUST_PARTS:
                    error = attacked.error_sum[i] / attacked.examples[i]
                    results[f"{name}_robust_error"] = float(error)
        for i, name in enumerate(self._parts):
            results[f"{name}_loss"] = float(given.loss_sum[i] / given.examples[i])
            results[f"{name}_error"] = float(given.error_sum[i] / given.examples[i])
            if "surprise" in total:
                nats = float(total["surprise"].loss_sum[i] / given.examples[i])
                results |= _of_text(name, nats)
            if name == "train_noisy":
                error = true.error_sum[i] / true.examples[i]
                results[f"{name}_error_true"] = float(error)
        return results

    def _total(self, sums: Callable, examples: Examples | Streamed, *given: Any) -> Any:
        """Sums over all batches, one for every part."""
        split = self._layout.split
        rows = ((split(batch),) for batch, _ in self.batches)
        pending = [
            sums(*given, here, *places, split(members))
            for (here, places), (_, members) in zip(
                feeds.feed(examples, rows), self.batches, strict=True
            )
        ]
        return added([self._layout.fetch(p) for p in pending])


def added(batches: list[Any]) -> Any:
    """Sums over batches of what each has given, in float64."""
    return jax.tree.map(lambda *x: np.sum(x, 0, np.float64), *batches)


class Attack:
    """Sums of errors on attacked images, the network in evaluation mode.

    The steps are separate calls of one compiled step: n steps compiled together take n
    times as long to compile, and compiled loops are slow on CPU (see `ops.loops`).
    """

    def __init__(
        self, module: nn.Module, layout: parallel.Layout, adversary: Adversary
    ):
        """Compiles nothing yet."""
        self._steps = adversary.steps

        def unit(examples: Examples, indices):
            return examples.pixels.unit(examples.batch(indices)["images"])

        def begin(examples: Examples, indices):
            # The same noise at every evaluation, by the number of the example.
            keys = jax.vmap(jax.random.key)(indices)
            return adversary.begin(keys, unit(examples, indices))

        def move(params, batch_stats, examples: Examples, indices, points):
            def loss(points):
                images = examples.pixels.normalized(points)
                logits = evaluation_logits(module, params, batch_stats, images)
                labels = jnp.asarray(examples.given)[indices]
                return jnp.sum(losses.cross_entropy(logits, labels))

            center = unit(examples, indices)
            return adversary.move(jax.grad(loss)(points), points, center)

        def sums(params, batch_stats, examples: Examples, indices, members, points):
            images = examples.pixels.normalized(points)
            logits = evaluation_logits(module, params, batch_stats, images)
            wrong = metrics.errors(logits, jnp.asarray(examples.given)[indices])
            total = jax.vmap(metrics.Metrics.of_batch, in_axes=(None, None, 1))(
                jnp.zeros(wrong.shape, logits.dtype), wrong, members
            )
            axis = layout.axis_name
            return total if axis is None else jax.lax.psum(total, axis)

        self._begin = layout.map(begin, rows=(1,), gives_rows=True)
        self._move = layout.map(move, rows=(3, 4), gives_rows=True)
        self._sums = layout.map(sums, rows=(3, 4, 5))

    def __call__(self, params, batch_stats, examples, indices, members):
        points = self._begin(examples, indices)
        for _ in range(self._steps):
            points = self._move(params, batch_stats, examples, indices, points)
        return self._sums(params, batch_stats, examples, indices, members, points)


@functools.lru_cache(maxsize=8)
def attack(module: nn.Module, layout: parallel.Layout, adversary: Adversary) -> Attack:
    """Traced once for many runs."""
    return Attack(module, layout, adversary)


@functools.lru_cache(maxsize=8)
def mapped_sums(module: nn.Module, loss: Loss, layout: parallel.Layout) -> Callable:
    """Sums of losses and errors over one batch's parts; traced once for many runs."""

    def sums(params, batch_stats, examples: Examples, indices, members):
        images = examples.batch(indices)["images"]
        logits = evaluation_logits(module, params, batch_stats, images)

        def total(losses, labels):
            weights = members
            if labels.ndim == 2:  # tokens count alike
                weights = members * metrics.predictions(labels)[:, None]
            return jax.vmap(metrics.Metrics.of_batch, in_axes=(None, None, 1))(
                losses, metrics.errors(logits, labels), weights
            )

        given, true = examples.given[indices], examples.true[indices]
        both = {
            "given": total(loss(logits, given), given),
            "true": total(loss(logits, true), true),
        }
        if given.ndim == 2:
            surprise = losses.over_tokens(losses.cross_entropy)
            both["surprise"] = total(surprise(logits, given), given)
        axis = layout.axis_name
        return both if axis is None else jax.lax.psum(both, axis)

    return layout.map(sums, rows=(3, 4))


def _of_text(part: str, nats: float) -> dict[str, float]:
    """Figures of the mean of -log p over the tokens of a part, which are bytes."""
    most = np.log(np.finfo(np.float64).max)
    return {
        f"{part}_perplexity": float(np.exp(min(nats, most))),
        f"{part}_bits_per_byte": nats / float(np.log(2)),
    }


class FreshStatistics:
    """BatchNorm statistics of given weights: the mean over training batches.

    An average of weights has activations of its own, which no running statistics
    followed. One pass over the training images as they are, without augmentation, as
    `torch.optim.swa_utils.update_bn` does it.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: parallel.Layout,
        *,
        train: np.ndarray,
        batch_size: int,
    ):
        """Compiles nothing yet.

        Args:
          module: called with (images, train), its statistics those of a global batch.
          train: indices of the training examples; an incomplete last batch is dropped.
        """
        self._layout = layout
        steps = max(1, len(train) // batch_size)
        self._batches = np.resize(train, (steps, batch_size))

        def accumulate(total, params, examples: Examples, indices):
            # An update leaves momentum times the old statistics, and the rest of the
            # batch's: from zeros and from ones, any BatchNorm shows its momentum.
            images = examples.batch(indices)["images"]
            zeros, ones = (
                training_logits(module, params, jax.tree.map(fill, total), images)[1]
                for fill in (jnp.zeros_like, jnp.ones_like)
            )

            def add(total, zero, one):
                return total + zero / (1 - (one - zero)) / steps

            return jax.tree.map(add, total, zeros, ones)

        self._accumulate = layout.map(accumulate, rows=(3,))

    def __call__(
        self, params: Tree, batch_stats: Tree, examples: Examples | Streamed
    ) -> Tree:
        """Statistics like `batch_stats`; nothing for nothing."""
        total = jax.tree.map(jnp.zeros_like, batch_stats)
        if jax.tree.leaves(batch_stats):
            rows = ((self._layout.split(batch),) for batch in self._batches)
            for here, places in feeds.feed(examples, rows):
                total = self._accumulate(total, params, here, *places)
        return total


def _padded(
    indices: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size with a mask of what is real in them: one compilation."""
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        yield np.resize(batch, batch_size), np.arange(batch_size) < len(batch)
