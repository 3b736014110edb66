"""Perturbations scaled by the size of the weights: per element, per layer."""

import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import Rho, make_factory, transformation
from sam_jax.transforms.point import Point


def asam_gradient(
    point: Point,
    *,
    eta: trees.Scalar = 0.01,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """The gradient at the adaptive ascent point; the options are those of `asam`."""
    rule = ascents.adaptive(eta)
    return directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)


def layerwise_sam_gradient(
    point: Point,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """Every leaf l moves by rho |w_l| along its own normalised gradient.

    The scaling of adversarial weight perturbation (AWP, Wu et al. 2020), rho its gamma:
    relative to the size of the weights, .005-.01 there. A leaf of zeros stays.

    On attacked images `only(sam_jax.kernels, layerwise_sam(gamma))` is AWP's step as
    the authors' code takes it (csdongxian/AWP, utils_awp.py): one ascent, of the
    weights with two axes or more. Two things differ in a training run. The penalty
    config.l2 is a part of the ascent here, and of the descent alone there. The running
    statistics of BatchNorm follow the pass at w here, and other passes too there.

    Two gradients a step.

    Args:
      rho: relative radius, >= 0, or a schedule.
      m, chunk, ascent, axis_name: as in `sam`.
    """
    rule = ascents.layerwise
    return directions.evaluate(point, rule, ascent=ascent, m=m, chunk=chunk)


def asam(
    rho: Rho,
    eta: trees.Scalar = 0.01,
    *,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Adaptive SAM: delta = rho T^2 g / |T g| with T = |w| + eta, element by element.

    Kwon et al. 2021, Eq. 8. Its sharpness does not change when a layer is rescaled and
    the next scaled back, so that useful rho are some ten times SAM's.

    Two gradients a step.

    Args:
      rho, m, chunk, ascent, axis_name: as in `sam`.
      eta: >= 0, in parameter units, so that zero weights move too. It is added for
        every leaf, biases included.
    """
    return transformation(
        "asam",
        asam_gradient,
        rho,
        axis_name,
        eta=eta,
        m=m,
        chunk=chunk,
        ascent=ascent,
        init_state=directions.init_direction,
    )


layerwise_sam = make_factory(
    "layerwise_sam", layerwise_sam_gradient, directions.init_direction
)
