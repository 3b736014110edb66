"""Signs that robustness is only masked gradients (Carlini et al. 2019, Sec. 3).

An attack that cannot see a slope finds nothing, whether or not there is something to
find: what it reports is then no robustness.
"""

import warnings
from collections.abc import Mapping

import jax
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array

from sam_jax import losses
from sam_jax.attacks import model
from sam_jax.attacks.geometry import NORMS, Images
from sam_jax.attacks.objectives import Labels

ZERO_SHARE = 0.01  # of images with a gradient of 0
STRONGER_SHARE = 0.01  # of images that only a black-box attack misleads
AGREEMENT = 1e-3  # of two calls, relative to the largest logit
BLACK_BOX = ("square",)


class GradientMaskingWarning(UserWarning):
    """The robust error measured may be far below the true one."""


def before(
    predict: Partial,
    images: Images,
    labels: Labels,
    key: Array,
    *,
    random_expected: bool = False,
) -> list[str]:
    """What the network itself shows, on some correctly classified images."""
    signs = []
    different = disagreement(predict, images, key)
    if different and not random_expected:
        signs.append(different)
    logits, largest = _look(predict, images, labels, key)
    zero = float(np.mean(np.asarray(largest) == 0))
    if zero > ZERO_SHARE:
        signs.append(
            f"the gradient of cross-entropy is exactly 0 for {zero:.0%} of the images: "
            "gradient attacks cannot move them. Attack the network without what "
            "flattens it (quantised inputs, saturated outputs, stop_gradient)"
        )
    logits = np.asarray(logits)
    if (logits >= 0).all() and np.allclose(logits.sum(1), 1, atol=1e-4):
        signs.append(
            "predict returns probabilities, whose gradient vanishes where the network "
            "is sure; return the logits before the softmax"
        )
    return signs


def disagreement(predict: Partial, images: Images, key: Array) -> str | None:
    """Says so if two calls on the same images differ; not compiled, to see state."""
    first, second = (
        np.asarray(model.logits_of(predict, images, k)) for k in jax.random.split(key)
    )
    scale = max(float(np.abs(first).max()), 1e-6)
    if np.abs(first - second).max() <= AGREEMENT * scale:
        return None
    return (
        "two calls of predict on the same images differ: it is random or keeps a "
        "state, and a compiled attack sees one draw of it for ever. Make predict a "
        "function of the images, or let it take key= and use version='rand'"
    )


def after(misled: Mapping[str, int], correct: int) -> list[str]:
    """What the attacks' results show.

    Args:
      misled: attack -> images it misled among those that resisted all before it.
      correct: images classified correctly at first.
    """
    white = [name for name in misled if name not in BLACK_BOX]
    return [
        f"{name}, which sees no gradients, misled {misled[name]} of {correct} images "
        f"that {', '.join(white)} could not: the gradients do not lead to the "
        "adversarial images"
        for name in BLACK_BOX
        if white and misled.get(name, 0) > max(1, STRONGER_SHARE * correct)
    ]


def report(signs: list[str]) -> None:
    """Warns of every sign."""
    for sign in signs:
        warnings.warn(
            f"Sign of gradient masking: {sign}.", GradientMaskingWarning, stacklevel=3
        )


@jax.jit
def _look(predict: Partial, images: Images, labels: Labels, key: Array):
    """Logits, and the largest entry of each image's gradient."""
    _, gradient, logits = model.loss_gradient(
        predict, losses.cross_entropy, images, key, labels
    )
    return logits, NORMS["linf"].length(gradient)
