"""Square: random search that sees the logits alone (Andriushchenko et al. 2020)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sam_jax import checks
from sam_jax.attacks import inputs, model, objectives, random_squares, survivors
from sam_jax.attacks.geometry import Images, Scalar
from sam_jax.attacks.objectives import Labels
from sam_jax.attacks.pgd import require_key

REPACK = 100  # queries between two looks at how many images still resist


class State(NamedTuple):
    """points: the best of all queries, [B, ...]. margin: its max_{i != y} z_i - z_y."""

    points: Images
    margin: Float[Array, " batch"]


def square(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any,
    norm: str = "linf",
    queries: int = 5000,
    p_init: checks.Number = 0.8,
    restarts: int = 1,
    cover: bool = False,
    key: Array | None = None,
) -> Images:
    """Changes random squares of the images, and keeps what raises the margin.

    Needs no gradient: where it finds what gradient attacks do not, these are misled.

    Args:
      predict: images -> logits [B, classes]; see `sam_jax.attacks.model`.
      x: images in [0, 1], [B, height, width, channels]; height and width at least 5
        for l2. y: labels [B].
      eps: radius of the ball, > 0. norm: linf or l2.
      queries: calls of the network for each image.
      p_init: share of pixels changed at first, in (0, 1].
      restarts: runs, on the images not yet misclassified.
      cover: whether squares reach the last row and column, as in the paper. In the
        authors' code, and so by default, only a square as large as the image does: on
        small images the attack is weaker by that, and comparable with published
        figures.
      key: for the random search.

    Returns: for each image the point of largest margin, misclassified or not.
    Raises: ValueError for whatever is out of range.
    """
    partial, images, labels = inputs.check(predict, x, y, eps, norm)
    checks.integer("queries", queries, 1)
    checks.integer("restarts", restarts, 1)
    checks.number("p_init", p_init, 1e-6, 1)
    random_squares.check_shape(images, norm)
    key = require_key(key, "there is no start without one")

    def attack(run: int, rows: survivors.Rows, key: Array) -> Images:
        return run_once(
            partial,
            images[rows],
            labels[rows],
            eps,
            key,
            norm=norm,
            queries=queries,
            p_init=p_init,
            cover=cover,
        )

    return survivors.attack_survivors(attack, restarts, partial, images, labels, key)


def run_once(
    predict: model.Predict,
    images: Images,
    labels: Labels,
    eps: Scalar,
    key: Array,
    *,
    norm: str,
    queries: int,
    p_init: checks.Number,
    cover: bool,
) -> Images:
    """One run on all images; now and then only those that still resist are kept."""
    state = _start(predict, images, labels, eps, key, norm)
    ends, rows, real = np.array(images), np.arange(len(images)), len(images)
    here = images, labels
    for query in range(1, queries):
        if query % REPACK == 0:
            resisting = np.flatnonzero(np.asarray(state.margin)[:real] <= 0)
            kept = survivors.padded(len(resisting), len(images))
            if len(kept) < len(state.margin):
                ends[rows] = np.asarray(state.points)[:real]
                if not len(resisting):
                    break
                rows, real = rows[resisting], len(resisting)
                chosen = resisting[kept]
                state, here = jax.tree.map(lambda a, i=chosen: a[i], (state, here))
        side = random_squares.side(query, p_init, images.shape, norm)
        state = _query(predict, state, *here, eps, key, query, side, norm, cover)
    ends[rows] = np.asarray(state.points)[:real]
    return jnp.asarray(ends)


@functools.partial(jax.jit, static_argnames=("norm",))
def _start(
    predict: model.Predict,
    images: Images,
    labels: Labels,
    eps: Scalar,
    key: Array,
    norm: str,
) -> State:
    points = random_squares.start(key, images, eps, norm)
    logits = model.logits_of(predict, points, key)
    return State(points, objectives.margin(logits, labels))


@functools.partial(jax.jit, static_argnames=("norm", "cover"))
def _query(
    predict: model.Predict,
    state: State,
    images: Images,
    labels: Labels,
    eps: Scalar,
    key: Array,
    query: Int[Array, ""] | int,
    side: Int[Array, ""] | int,
    norm: str,
    cover: bool,
) -> State:
    key = jax.random.fold_in(key, query)
    points = random_squares.proposal(key, state.points, images, eps, side, norm, cover)
    logits = model.logits_of(predict, points, key)
    margin = objectives.margin(logits, labels)
    better = (margin > state.margin) & (state.margin <= 0)
    return State(
        survivors.select(better, points, state.points),
        jnp.where(better, margin, state.margin),
    )
