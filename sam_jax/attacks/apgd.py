"""Auto-PGD: a step size that halves itself (Croce & Hein 2020a, Algorithm 1)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sam_jax import checks, metrics, schedules
from sam_jax.attacks import geometry, inputs, model, objectives, survivors
from sam_jax.attacks.geometry import Images, Scalar, wide
from sam_jax.attacks.objectives import Labels, Objective
from sam_jax.attacks.pgd import STARTS, require_key

PerImage = Float[Array, " batch"]


class Value(NamedTuple):
    """The loss at a point: losses [B], gradient [B, ...], correct bool[B]."""

    loss: PerImage
    gradient: Images
    correct: Bool[Array, " batch"]


class State(NamedTuple):
    """Where a run is; all of B images.

    points, before: this iterate and the one before. gradient: at `points`.
    best, best_loss, best_gradient: the iterate of highest loss.
    misled, misleading: whether an iterate was misclassified, and the last that was.
    step_size: f[B]. loss: of the last iterate; 0 before the first, as the authors' code
      has it, so that a positive loss counts as an increase there.
    increases: i32[B], since the last checkpoint.
    checked_loss: best_loss at the last checkpoint. halved: at the last checkpoint.
    """

    points: Images
    before: Images
    gradient: Images
    best: Images
    best_loss: PerImage
    best_gradient: Images
    misled: Bool[Array, " batch"]
    misleading: Images
    step_size: PerImage
    loss: PerImage
    increases: Int[Array, " batch"]
    checked_loss: PerImage
    halved: Bool[Array, " batch"]


def apgd(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any,
    norm: str = "linf",
    steps: int = 100,
    loss: str | Objective = "cross_entropy",
    start: str = "random",
    restarts: int = 1,
    targets: int = 9,
    eot: int = 1,
    key: Array | None = None,
) -> Images:
    """Projected gradient ascent whose only parameter is the number of steps.

    Each step moves along the gradient and along the step before; at checkpoints that
    get closer the step size of an image is halved, and its run goes on from its best
    point, where the loss grew too seldom.

    Args:
      predict: images -> logits [B, classes]; see `sam_jax.attacks.model`.
      x: images in [0, 1], [B, ...]. y: labels [B].
      eps: radius of the ball, > 0. norm: linf or l2.
      loss: cross_entropy, dlr, dlr_targeted, margin, or (logits, labels) -> losses.
      start: random (on the ball's boundary) or zero (the images).
      restarts: runs from other random starts, on the images not yet misclassified.
      targets: of dlr_targeted: so many classes, the most likely first, a run each;
        those there are, if fewer.
      eot: gradients averaged over so many calls of a random network.
      key: for random starts and random networks.

    Returns: for each image a misclassified point, or else that of largest margin among
      the runs' points of highest loss and the image itself.
    Raises: ValueError for whatever is out of range.
    """
    partial, images, labels = inputs.check(predict, x, y, eps, norm)
    for name, count in {"steps": steps, "restarts": restarts, "eot": eot}.items():
        checks.integer(name, count, 1)
    checks.integer("targets", targets, 1)
    checks.choose("start", start, STARTS)
    if start == "random" or model.takes_key(predict):
        key = require_key(key, "start='zero' needs none")
    key = jax.random.key(0) if key is None else key
    objective = objectives.choose(loss)
    classes: tuple[Labels, ...] = ()
    if loss in objectives.TARGETED:
        classes = model.likely_targets(partial, images, labels, key, targets)

    def attack(run: int, rows: survivors.Rows, key: Array) -> Images:
        target = (classes[run % len(classes)][rows],) if classes else ()
        state = run_once(
            partial,
            images[rows],
            (labels[rows], *target),
            eps,
            key,
            norm=norm,
            steps=steps,
            start=start,
            objective=objective,
            eot=eot,
        )
        return survivors.select(state.misled, state.misleading, state.best)

    runs = restarts * max(len(classes), 1)
    return survivors.attack_survivors(attack, runs, partial, images, labels, key)


def run_once(
    predict: model.Predict,
    images: Images,
    labels: tuple[Labels, ...],
    eps: Scalar,
    key: Array,
    *,
    norm: str,
    steps: int,
    start: str,
    objective: Objective,
    eot: int = 1,
) -> State:
    """One run on all images.

    Args:
      labels: arguments of the objective after the logits: labels, and targets if any.
    """
    start_key, *keys = jax.random.split(key, steps + 2)
    points = start_points(images, eps, start_key, norm, start)
    evaluate = functools.partial(_evaluate, predict, labels, objective, eot)
    state = _initial(points, evaluate(points, keys[0]), 2 * eps)
    for i, (length, step_key) in enumerate(
        zip(schedules.apgd_checkpoints(steps), keys[1:], strict=True)
    ):
        # The first step has no step before it to go along.
        points = _move(
            state, images, eps, 1.0 if i == 0 else schedules.APGD_MOMENTUM, norm
        )
        value = evaluate(points, step_key)
        state = _absorb(state, points, value, length)
    return state


@functools.partial(jax.jit, static_argnames=("norm", "start"))
def start_points(
    images: Images, eps: Scalar, key: Array, norm: str, start: str
) -> Images:
    """The images, or random points on the ball's boundary, clipped to [0, 1]."""
    if start == "zero":
        return images
    return jnp.clip(images + geometry.NORMS[norm].boundary(key, images, eps), 0, 1)


def _evaluate(
    predict: model.Predict,
    labels: tuple[Labels, ...],
    objective: Objective,
    eot: int,
    points: Images,
    key: Array,
) -> Value:
    """Loss and gradient, means over `eot` calls; correct as in the last of them."""
    if eot == 1:
        return _value(predict, points, labels, key, objective)
    values = [
        _value(predict, points, labels, k, objective)
        for k in jax.random.split(key, eot)
    ]
    return Value(
        sum(v.loss for v in values) / eot,
        sum(v.gradient for v in values) / eot,
        values[-1].correct,
    )


@functools.partial(jax.jit, static_argnames=("objective",))
def _value(predict, points, labels, key, objective) -> Value:
    losses, gradient, logits = model.loss_gradient(
        predict, objective, points, key, *labels
    )
    return Value(losses, gradient, metrics.errors(logits, labels[0]) == 0)


@jax.jit
def _initial(points: Images, value: Value, step_size: Scalar) -> State:
    return State(
        points=points,
        before=points,
        gradient=value.gradient,
        best=points,
        best_loss=value.loss,
        best_gradient=value.gradient,
        misled=~value.correct,
        misleading=points,
        step_size=jnp.full_like(value.loss, step_size),
        loss=jnp.zeros_like(value.loss),
        increases=jnp.zeros(value.loss.shape, jnp.int32),
        checked_loss=value.loss,
        halved=jnp.ones_like(value.correct),
    )


@functools.partial(jax.jit, static_argnames=("norm",))
def _move(
    state: State, images: Images, eps: Scalar, momentum: Scalar, norm: str
) -> Images:
    """z = P(x_k + eta d), x_{k+1} = P(x_k + a (z - x_k) + (1 - a) (x_k - x_{k-1}))."""
    direction = geometry.NORMS[norm].direction(state.gradient)
    ahead = state.points + wide(state.step_size, images) * direction
    ahead = geometry.into_ball(ahead, images, eps, norm)
    moved = (
        state.points
        + momentum * (ahead - state.points)
        + (1 - momentum) * (state.points - state.before)
    )
    return geometry.into_ball(moved, images, eps, norm)


@jax.jit
def _absorb(
    state: State, points: Images, value: Value, length: Int[Array, ""] | int
) -> State:
    """The state after a step to `points`; `length` as `checkpoints` gives it."""
    better = value.loss > state.best_loss
    state = state._replace(
        before=state.points,
        points=points,
        gradient=value.gradient,
        best=survivors.select(better, points, state.best),
        best_loss=jnp.where(better, value.loss, state.best_loss),
        best_gradient=survivors.select(better, value.gradient, state.best_gradient),
        misled=state.misled | ~value.correct,
        misleading=survivors.select(~value.correct, points, state.misleading),
        increases=state.increases + (value.loss > state.loss),
        loss=value.loss,
    )
    checked = _check(state, length)
    return jax.tree.map(lambda a, b: jnp.where(length > 0, a, b), checked, state)


def _check(state: State, length: Int[Array, ""] | int) -> State:
    """A checkpoint, by the conditions of Sec. 3.2.

    1. The loss grew in at most APGD_IMPROVING of the steps since the last checkpoint.
    2. The step size was not halved at the last one, and no point was better since.
    """
    halve = (state.increases <= schedules.APGD_IMPROVING * length) | (
        ~state.halved & (state.checked_loss >= state.best_loss)
    )
    return state._replace(
        points=survivors.select(halve, state.best, state.points),
        gradient=survivors.select(halve, state.best_gradient, state.gradient),
        step_size=jnp.where(halve, state.step_size / 2, state.step_size),
        increases=jnp.zeros_like(state.increases),
        checked_loss=state.best_loss,
        halved=halve,
    )
