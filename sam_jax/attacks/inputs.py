"""Checks of what an attack is given. Each raises ValueError with the fix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import ArrayLike, Shaped

from sam_jax import checks
from sam_jax.attacks import model
from sam_jax.attacks.geometry import NORMS, Images
from sam_jax.attacks.objectives import Labels

Given = Shaped[ArrayLike, "..."]


def check(
    predict: model.Predict, x: Given, y: Given, eps: Any, norm: str
) -> tuple[Partial, Images, Labels]:
    """The arguments of every attack, checked.

    Values under a trace (`jax.jit` around an attack) are not known and pass.
    """
    checks.choose("norm", norm, NORMS)
    if eps is not None:
        check_eps(eps)
    images, labels = check_images(x), check_labels(y)
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            f"Received {images.shape[0]} images and {labels.shape[0]} labels; give one "
            "label an image."
        )
    classes = check_predict(predict, images)
    if not traced(labels):
        known = np.asarray(labels)
        low, high = known.min(), known.max()
        if not 0 <= low <= high < classes:
            raise ValueError(
                f"Received labels from {low} to {high} for {classes} logits; labels "
                f"are in 0..{classes - 1}."
            )
    return model.as_partial(predict), images, labels


def check_eps(eps: Any) -> None:
    """Radius of the ball: a finite number above 0."""
    if not traced(eps):
        value = float(eps)
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"Received eps={eps!r}; give a radius above 0, for images in [0, 1] "
                "such as 8 / 255."
            )


def check_images(x: Given) -> Images:
    """Floats in [0, 1], [B, ...], at least one."""
    images = jnp.asarray(x)
    if images.ndim < 2 or images.shape[0] == 0:
        raise ValueError(
            f"Received images of shape {images.shape}; give [batch, height, width, "
            "channels] with at least one image."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"Received images of dtype {images.dtype}; give floats in [0, 1], such as "
            "images / 255."
        )
    if not traced(images):
        known = np.asarray(images)
        low, high = float(known.min()), float(known.max())
        if not (low >= 0 and high <= 1):  # NaN is in no interval
            raise ValueError(
                f"Received images from {low:g} to {high:g}; attacks search [0, 1]. "
                "Give images in [0, 1], and normalise them inside predict."
            )
    return images


def check_labels(y: Given) -> Labels:
    """Integers, [B]."""
    labels = jnp.asarray(y)
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"Received labels of shape {labels.shape} and dtype {labels.dtype}; give "
            "integers of shape [batch]."
        )
    return labels


def check_predict(predict: model.Predict, images: Images) -> int:
    """Shape of the logits, [B, classes]; returns the number of classes."""
    options = {"key": jax.random.key(0)} if model.takes_key(predict) else {}
    logits = jax.eval_shape(predict, images, **options)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != images.shape[0] or shape[1] < 2:
        received = f"shape {shape}" if shape is not None else f"{type(logits).__name__}"
        raise ValueError(
            f"Received logits of {received} from predict for images of shape "
            f"{images.shape}; predict returns logits alone, [batch, classes] with two "
            "classes or more. For one logit z an image return stack([-z, z], -1) / 2."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"Received logits of dtype {logits.dtype}; return floats.")
    return shape[1]


def traced(value: Any) -> bool:
    """Whether a value is unknown because a function around it is compiled."""
    return isinstance(value, jax.core.Tracer)
