"""FAB: the smallest perturbation that changes the class (Croce & Hein 2020b)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sam_jax import checks, metrics
from sam_jax.attacks import geometry, hyperplane, inputs, model, objectives, survivors
from sam_jax.attacks.geometry import Images, wide
from sam_jax.attacks.objectives import Labels
from sam_jax.attacks.pgd import require_key

LARGEST_PULL = 0.1  # alpha_max: towards the image
OVERSHOOT = 1.05  # eta: steps go a little beyond the boundary
RETREAT = 0.9  # beta: towards the image, from a misclassified point
LEAST = 1e-8  # of a step's length
SLACK = 1e-5  # beyond the boundary, in the final search
PerImage = Float[Array, " batch"]


class State(NamedTuple):
    """points: the iterate [B, ...]. best: the nearest misclassified point so far, the
    image before there is one. distance: of `best`, inf before. All of B images."""

    points: Images
    best: Images
    distance: PerImage


def fab(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any = None,
    norm: str = "linf",
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    search_steps: int = 3,
    key: Array | None = None,
) -> Images:
    """The nearest point found that is misclassified (targeted FAB).

    Each step projects the iterate and the image on the linearised boundary between the
    label and a target class, inside [0, 1], and goes to a mean of the two, a little
    beyond the boundary; from a misclassified point it steps back towards the image.

    Args:
      predict: images -> logits [B, classes]; see `sam_jax.attacks.model`.
      x: images in [0, 1], [B, ...]. y: labels [B].
      eps: None for the nearest point of all runs, wherever it is. With a radius only
        points of the ball count, and an image is done with the first of them.
      norm: linf or l2, in which near is measured.
      targets: so many classes, the most likely first, a run each; those there are, if
        fewer.
      restarts: runs for each target, the first from the image and others from random
        points near it.
      search_steps: of the final search on the line from the point to the image.
      key: for restarts and random networks.

    Returns: misclassified points, and the image itself where none was found, and where
      it is misclassified as it is.
    Raises: ValueError for whatever is out of range.
    """
    partial, images, labels = inputs.check(predict, x, y, eps, norm)
    for name, count in {
        "steps": steps,
        "targets": targets,
        "restarts": restarts,
    }.items():
        checks.integer(name, count, 1)
    checks.integer("search_steps", search_steps, 0)
    if restarts > 1 or model.takes_key(predict):
        key = require_key(key, "restarts=1 needs none")
    key = jax.random.key(0) if key is None else key
    classes = model.likely_targets(partial, images, labels, key, targets)

    def attack(run: int, rows: survivors.Rows, key: Array) -> Images:
        restart, target = divmod(run, len(classes))
        data = (images[rows], labels[rows], classes[target][rows])
        radius = jnp.inf if eps is None else eps
        start = data[0] if restart == 0 else _near(data[0], radius, key, norm)
        state = run_once(
            partial,
            *data,
            start,
            key,
            norm=norm,
            steps=steps,
            search_steps=search_steps,
        )
        inside = state.distance <= radius
        return survivors.select(inside, state.best, data[0])

    runs = restarts * len(classes)
    if eps is None:
        return _nearest(attack, runs, partial, images, labels, key, norm)
    return survivors.attack_survivors(attack, runs, partial, images, labels, key)


def run_once(
    predict: model.Predict,
    images: Images,
    labels: Labels,
    targets: Labels,
    start: Images,
    key: Array,
    *,
    norm: str,
    steps: int,
    search_steps: int,
) -> State:
    """One run on all images, towards one target each."""
    distance = jnp.full(images.shape[:1], jnp.inf, images.dtype)
    state = State(start, images, distance)
    for i in range(steps):
        step_key = jax.random.fold_in(key, i)
        state = _step(predict, state, images, labels, targets, step_key, norm)
    if search_steps:
        state = _search(
            predict, state, images, labels, targets, key, norm, search_steps
        )
    return state


@functools.partial(jax.jit, static_argnames=("norm",))
def _step(
    predict: model.Predict,
    state: State,
    images: Images,
    labels: Labels,
    targets: Labels,
    key: Array,
    norm: str,
) -> State:
    """x <- (1 - a) (x + eta d) + a (x0 + eta d0), with projections d of x, d0 of x0."""

    def gap(logits, labels, targets):
        return objectives.at(logits, labels) - objectives.at(logits, targets)

    points = state.points
    values, normals, _ = model.loss_gradient(predict, gap, points, key, labels, targets)
    flat, center, normals = (
        jnp.reshape(a, (len(points), -1)) for a in (points, images, normals)
    )
    # The same hyperplane, seen from the image.
    from_center = values + jnp.sum(normals * (center - flat), axis=1)
    step = hyperplane.step_onto(flat, normals, values, norm)
    center_step = hyperplane.step_onto(center, normals, from_center, norm)
    length = geometry.NORMS[norm].length
    own, other = (jnp.maximum(length(d), LEAST) for d in (step, center_step))
    pull = jnp.minimum(own / (own + other), LARGEST_PULL)[:, None]
    moved = (1 - pull) * (flat + OVERSHOOT * step)
    moved = moved + pull * (center + OVERSHOOT * center_step)
    points = jnp.clip(moved, 0, 1).reshape(images.shape)
    logits = model.logits_of(predict, points, key)
    wrong = metrics.errors(logits, labels) == 1
    state = _keep(state, points, wrong, images, norm)
    back = images + RETREAT * (points - images)
    return state._replace(points=survivors.select(wrong, back, points))


def _keep(
    state: State,
    points: Images,
    wrong: Bool[Array, " batch"],
    images: Images,
    norm: str,
) -> State:
    """The state with `points` as the best where misclassified and nearer."""
    distance = geometry.NORMS[norm].length(points - images)
    nearer = wrong & (distance < state.distance)
    return state._replace(
        best=survivors.select(nearer, points, state.best),
        distance=jnp.where(nearer, distance, state.distance),
    )


@functools.partial(jax.jit, static_argnames=("norm", "steps"))
def _search(
    predict: model.Predict,
    state: State,
    images: Images,
    labels: Labels,
    targets: Labels,
    key: Array,
    norm: str,
    steps: int,
) -> State:
    """Secant steps on the line from the image to the best point (App. A.2).

    The margin is that against all classes. `low` is a point classified right and
    `high` a misclassified one; the next is where the margin between them would be 0 if
    it were linear, or their middle if that does not lie between them.
    """
    found = jnp.isfinite(state.distance)

    def margin_at(points):
        return objectives.margin(model.logits_of(predict, points, key), labels)

    def point(share):
        return images + wide(share, images) * (far - images)

    far = state.best
    low, high = jnp.zeros_like(state.distance), jnp.ones_like(state.distance)
    low_value, high_value = margin_at(images), margin_at(far)
    for _ in range(steps):
        slope = high_value - low_value
        share = low - low_value * (high - low) / jnp.where(slope > 0, slope, 1)
        # A hair beyond the zero, or rounding decides on which side the point is.
        share = share + SLACK * (high - low)
        between = (low < share) & (share < high)
        share = jnp.where(between, share, (low + high) / 2)
        value = margin_at(point(share))
        wrong = value > 0
        state = _keep(state, point(share), wrong & found, images, norm)
        low, low_value = (
            jnp.where(wrong, a, b) for a, b in ((low, share), (low_value, value))
        )
        high, high_value = (
            jnp.where(wrong, a, b) for a, b in ((share, high), (value, high_value))
        )
    return state


def _near(images: Images, radius: Any, key: Array, norm: str) -> Images:
    """Random points half way to the ball's boundary; of radius 1 if there is none."""
    half = jnp.where(jnp.isfinite(radius), radius, 1.0) / 2
    return jnp.clip(images + geometry.NORMS[norm].boundary(key, images, half), 0, 1)


def _nearest(
    attack: survivors.Attack,
    runs: int,
    predict: model.Predict,
    images: Images,
    labels: Labels,
    key: Array,
    norm: str,
) -> Images:
    """Of each image the nearest of the misclassified ends of all runs."""
    correct, _ = model.judge(predict, images, labels, key)
    rows = np.arange(len(images))
    state = State(images, images, jnp.where(correct, jnp.inf, 0))
    for run in range(runs):
        run_key = jax.random.fold_in(key, run)
        points = attack(run, rows, run_key)
        wrong = ~model.judge(predict, points, labels, run_key)[0]
        state = _keep(state, points, wrong, images, norm)
    return state.best
