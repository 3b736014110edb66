"""The functions of App. B.3, on which normalised SAM falls short, in closed form."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Shaped

from sam_jax.checks import Number
from sam_jax.core.objective import Objective

Values = Shaped[ArrayLike, "..."]
Scalar = Float[Array, "*shape"]
NO_DATA = np.zeros(1)


def fact_1(w: Scalar) -> Scalar:
    """w^2 / 2: constant steps end in a cycle of two points, never at the minimum."""
    return w**2 / 2


def fact_2(w: Scalar) -> Scalar:
    """w^2 / 2 for w >= 0 and w^6 / 6 for w < 0: flat to the left of its minimum."""
    return jnp.where(w >= 0, w**2 / 2, w**6 / 6)


def fact_3(w: Scalar) -> Scalar:
    """-w^2 / 2: normalised SAM stays at w = rho, where the slope is -rho.

    The ascent goes from rho to 0, where the gradient vanishes (Fact III).
    """
    return -(w**2) / 2


def objective(function: Callable[[Scalar], Scalar]) -> Objective:
    """L itself as the loss of the one example that `NO_DATA` stands for."""
    return Objective(
        predict=lambda w, batch: jnp.reshape(function(w), (1,)),
        loss=lambda outputs, batch: outputs,
    )


def cycle_radius(gamma: Values, rho: Values) -> Values:
    """|w| = gamma rho / (2 - gamma) of the cycle w -> -w on w^2 / 2 (Fact I).

    From w = (1 - gamma) w - gamma rho sign(w), set to -w.

    Args:
      gamma: step size in (0, 2). rho: radius >= 0.

    Examples:
      >>> w = cycle_radius(gamma=1.0, rho=0.5)
      >>> w, w - 1.0 * (w + 0.5)  # and a step from there
      (0.5, -0.5)
    """
    return gamma * rho / (2 - gamma)


def sharpness(function: Callable[[Scalar], Scalar], w: Scalar, rho: Number) -> Scalar:
    """max of L on [w - rho, w + rho], for a quasi-convex L: at one of the ends.

    App. B.3 calls this S^rho_L(w); L(w) is not subtracted.
    """
    return jnp.maximum(function(w - rho), function(w + rho))
