"""Perturbations of other shapes than the l2 ball's: adaptive, layer-wise, random."""

import jax
import optax

from sam_jax.core import ascent, trees
from sam_jax.transforms.common import (
    Context,
    Rho,
    check_number,
    sharpness_aware,
)


def asam(
    rho: Rho, eta: trees.Scalar = 0.01, *, axis_name: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """Adaptive SAM: delta = rho T^2 g / |T g| with T = |w| + eta, element by element.

    Kwon et al. 2021, Eq. 8. Its sharpness does not change when a layer is rescaled and
    the next scaled back, so that useful rho are some ten times SAM's.

    Args:
      rho, axis_name: as in `sam`.
      eta: >= 0, in parameter units, so that zero weights move too. It is added for
        every leaf, biases included.
    """
    check_number("asam", "eta", eta)
    return _single("asam", rho, ascent.adaptive(eta), axis_name)


def layerwise_sam(
    rho: Rho, *, axis_name: str | None = None
) -> optax.GradientTransformationExtraArgs:
    """Every leaf l moves by rho |w_l| along its own normalised gradient.

    The scaling of adversarial weight perturbation (AWP, Wu et al. 2020, Eq. 9-10). rho
    is relative to the size of the weights: .005-.01 there. A leaf of zeros stays.

    Args:
      rho: relative radius, >= 0, or a schedule. axis_name: as in `sam`.
    """
    return _single("layerwise_sam", rho, ascent.layerwise, axis_name)


def random_perturbation(
    rho: Rho,
    *,
    seed: trees.Scalar = 0,
    normalize: bool = True,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The gradient at a random point: average-case instead of worst-case noise.

    Args:
      rho: length of the perturbation, or its standard deviation per entry.
      seed: of the directions; step t draws from fold_in(key(seed), t).
      normalize: length rho exactly, otherwise independent N(0, rho^2) entries.
      axis_name: as in `sam`; all devices share the direction.
    """

    def compute(context: Context):
        key = jax.random.fold_in(jax.random.key(seed), context.count)
        rule = ascent.random(key, normalize=normalize)
        return context.evaluate(rule=rule, clean=context.gradient, axis_name=axis_name)

    return sharpness_aware("random_perturbation", rho, compute)


def _single(
    name: str, rho: Rho, rule: ascent.Rule, axis_name: str | None
) -> optax.GradientTransformationExtraArgs:
    def compute(context: Context):
        return context.evaluate(rule=rule, clean=context.gradient, axis_name=axis_name)

    return sharpness_aware(name, rho, compute)
