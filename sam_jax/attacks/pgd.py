"""Projected gradient descent on the images (Madry et al. 2018), and its single step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sam_jax import checks, metrics
from sam_jax.attacks import geometry, inputs, model, objectives
from sam_jax.attacks.geometry import Images, Scalar
from sam_jax.attacks.objectives import Labels, Objective

STARTS = {"random": "uniform in the ball", "zero": "the images"}


def pgd(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any,
    norm: str = "linf",
    steps: int = 10,
    step_size: Any = None,
    start: str = "random",
    restarts: int = 1,
    loss: str | Objective = "cross_entropy",
    targeted: bool = False,
    key: Array | None = None,
) -> Images:
    """x <- P(x + step_size d), where d ascends the loss most, `steps` times.

    d is the sign of the gradient in l-infinity and the gradient of length 1 in l2; P
    projects on the ball around the images, then on [0, 1].

    Args:
      predict: images -> logits [B, classes]; see `sam_jax.attacks.model`.
      x: images in [0, 1], [B, ...]. y: labels [B].
      eps: radius of the ball, > 0. norm: linf or l2.
      step_size: of one step, in the units of eps; None for eps / 4.
      start: random (uniform in the ball) or zero (the images).
      restarts: runs from different random starts; of each image the misclassified end
        is kept, and the one of highest loss among equals.
      loss: cross_entropy, dlr, margin, or a function (logits, labels) -> losses [B].
      targeted: y are classes to reach; the loss is descended.
      key: for random starts and random networks.

    Returns: attacked images, in the ball and in [0, 1].
    Raises: ValueError for whatever is out of range.
    """
    partial, images, labels = inputs.check(predict, x, y, eps, norm)
    checks.integer("steps", steps, 1)
    checks.integer("restarts", restarts, 1)
    checks.choose("start", start, STARTS)
    if step_size is not None and not inputs.traced(step_size):
        checks.number("step_size", float(step_size), 0)
    if start == "random" or model.takes_key(predict):
        key = require_key(key, "start='zero' needs none")
    objective = objectives.choose(loss)
    run = functools.partial(
        _run, partial, images, labels, eps, eps / 4 if step_size is None else step_size
    )
    best = None
    for k in jax.random.split(jax.random.key(0) if key is None else key, restarts):
        ends = run(k, norm, steps, start, objective, targeted)
        best = ends if best is None else _worse_of(best, ends)
    assert best is not None
    return best[0]


def fgsm(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any,
    norm: str = "linf",
    loss: str | Objective = "cross_entropy",
    targeted: bool = False,
    key: Array | None = None,
) -> Images:
    """One step of length eps from the images (Goodfellow et al. 2015); see `pgd`."""
    return pgd(
        predict,
        x,
        y,
        eps=eps,
        norm=norm,
        steps=1,
        step_size=eps,
        start="zero",
        loss=loss,
        targeted=targeted,
        key=key,
    )


def start_points(
    images: Images, eps: Scalar, key: Array, norm: str, start: str
) -> Images:
    """Where `pgd` starts: the images, or uniform in the ball, clipped to [0, 1]."""
    if start == "zero":
        return images
    return jnp.clip(images + geometry.NORMS[norm].inside(key, images, eps), 0, 1)


def step(
    points: Images,
    gradient: Images,
    images: Images,
    eps: Scalar,
    step_size: Scalar,
    norm: str,
) -> Images:
    """One step: along the gradient's direction, then into the ball and into [0, 1]."""
    points = points + step_size * geometry.NORMS[norm].direction(gradient)
    return geometry.into_ball(points, images, eps, norm)


def require_key(key: Array | None, otherwise: str) -> Array:
    """The key; an error that says what to do without one."""
    if key is None:
        raise ValueError(
            f"Received key=None for a random attack; give key=jax.random.key(0), or "
            f"any other ({otherwise})."
        )
    return key


Ends = tuple[Images, Array, Array]  # points, whether misled, losses


@functools.partial(jax.jit, static_argnames=("norm", "start"))
def _start(images, eps, key, norm, start):
    return start_points(images, eps, key, norm, start)


@functools.partial(jax.jit, static_argnames=("norm", "objective", "targeted"))
def _step(
    predict, images, points, labels, eps, step_size, key, norm, objective, targeted
):
    gradient = model.loss_gradient(predict, objective, points, key, labels)[1]
    gradient = -gradient if targeted else gradient
    return step(points, gradient, images, eps, step_size, norm)


@functools.partial(jax.jit, static_argnames=("objective", "targeted"))
def _judge(predict, points, labels, key, objective, targeted):
    logits = model.logits_of(predict, points, key)
    values = objective(logits, labels)
    wrong = metrics.errors(logits, labels) == 1
    return (points, ~wrong, -values) if targeted else (points, wrong, values)


def _run(
    predict: model.Predict,
    images: Images,
    labels: Labels,
    eps: Any,
    step_size: Any,
    key: Array,
    norm: str,
    steps: int,
    start: str,
    objective: Objective,
    targeted: bool,
) -> Ends:
    start_key, step_key = jax.random.split(key)
    points = _start(images, eps, start_key, norm, start)
    for i in range(steps):
        points = _step(
            predict,
            images,
            points,
            labels,
            eps,
            step_size,
            jax.random.fold_in(step_key, i),
            norm,
            objective,
            targeted,
        )
    return _judge(predict, points, labels, step_key, objective, targeted)


@jax.jit
def _worse_of(a: Ends, b: Ends) -> Ends:
    """Of each image the end that misleads; among equals, that of higher loss."""
    second = (b[1] & ~a[1]) | ((a[1] == b[1]) & (b[2] > a[2]))
    chosen = [
        jnp.where(geometry.wide(second, new), new, old)
        for old, new in zip(a, b, strict=True)
    ]
    return chosen[0], chosen[1], chosen[2]
