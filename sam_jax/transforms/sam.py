"""SAM: descent by the gradient at the ascent point, on the same batch."""

import optax

from sam_jax.core import ascent as ascents
from sam_jax.core import trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.transforms import directions
from sam_jax.transforms.factory import ONE, Rho, transformation
from sam_jax.transforms.point import Point


def sam_gradient(
    point: Point,
    *,
    normalize: bool = True,
    ascent_steps: Count = ONE,
    ascent_step_size: trees.Scalar | None = None,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
) -> Gradient:
    """The gradient at w + rho g / |g|; the options are those of `sam`."""
    return directions.evaluate(
        point,
        ascents.plain(normalize),
        ascent=ascent,
        ascent_steps=ascent_steps,
        ascent_step_size=ascent_step_size,
        m=m,
        chunk=chunk,
    )


def sam(
    rho: Rho,
    *,
    normalize: bool = True,
    ascent_steps: Count = ONE,
    ascent_step_size: trees.Scalar | None = None,
    m: Count | None = None,
    chunk: Count | None = None,
    ascent: optax.GradientTransformation | None = None,
    axis_name: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the gradient at w by the gradient at w + rho g / |g|, on the same batch.

    Foret et al. 2021; the paper's Eq. 5 and 20, and Eq. 18 without the normalisation.
    g is the gradient that comes down the chain: clipping it first changes an
    unnormalised perturbation, clipping behind `sam` what is descended. **The optimiser,
    with its momentum and weight decay, belongs behind it, and so does**
    `optax.MultiSteps`. Both are refused in the other order where that can be seen.

    1 + ascent_steps gradients a step.

    Args:
      rho: ascent radius in parameter units, >= 0, or a schedule; 0 is the plain step.
      normalize: divide by the l2 norm over all leaves, otherwise step by rho g.
      ascent_steps: number of ascent steps, each one gradient.
      ascent_step_size: length of an ascent step, default rho; with several steps or a
        size of its own the perturbation is projected on the l2 ball of radius rho.
      m: examples of the global batch that share a perturbation (m-SAM), consecutive in
        the batch; None for the whole batch. Every group holds a copy of the weights;
        `sum_max` does without.
      chunk: groups worked on at once. Less memory, more time; None for all at once.
      ascent: direction rule, any optax transformation from g to the direction of the
        ascent, such as optax.trace(0.9), with a state of its own; None for g itself.
        It goes with one ascent step of the whole batch.
      axis_name: mapped device axis over which a global batch is spread. The gradient
        that comes down the chain, and grad_fn's, are then a device's own means, with no
        psum or pmean: `sam_jax.core.devices` has the pattern. What leaves the transform
        is the mean over devices. Without axis_name, devices perturb on their own.

    Returns: transformation; `update` needs `params`, `batch`, and `grad_fn(params,
      batch)` or `objective`. State: `SamState`.

    Raises: ValueError for a negative rho, or when `update` lacks one of its arguments.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> grad = jax.grad(lambda w, batch: jnp.sum(w**2) / 2)  # g = w
      >>> w, batch = jnp.array([3.0, 4.0]), jnp.zeros(1)
      >>> tx = optax.chain(sam(rho=5.0), optax.sgd(1.0))
      >>> step, _ = tx.update(w, tx.init(w), w, grad_fn=grad, batch=batch)
      >>> step.tolist()  # -(w + 5 w / |w|), |w| = 5
      [-6.0, -8.0]
    """
    return transformation(
        "sam",
        sam_gradient,
        rho,
        axis_name,
        normalize=normalize,
        ascent_steps=ascent_steps,
        ascent_step_size=ascent_step_size,
        m=m,
        chunk=chunk,
        ascent=ascent,
        init_state=directions.init_direction,
    )
