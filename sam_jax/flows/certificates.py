"""Does a flow end where Prop. 3-5 say? Two independent computations, compared."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from sam_jax.flows import potentials
from sam_jax.flows.solver import Solution

# Allowed error of beta: FACTOR * sqrt(remaining loss) / size of the targets.
FACTOR = 20.0


class Certificate(NamedTuple):
    """distance: |beta - minimiser| / |minimiser|, of the flow's end and the minimiser
      of phi_alpha_effective on {X beta = y}.
    kkt: largest entry of grad phi_alpha_effective(beta) - shift - X^T nu, relative to
      the largest of the gradient, with the flow's own multiplier nu.
    tolerance: what distance may be. passed: the flow ended, and within tolerance.
    """

    distance: Float[Array, "*batch"]
    kkt: Float[Array, "*batch"]
    tolerance: Float[Array, "*batch"]
    passed: Bool[Array, "*batch"]


def certificate(
    solution: Solution,
    x: ArrayLike,
    y: ArrayLike,
    *,
    tolerance: ArrayLike | None = None,
) -> Certificate:
    """Compares the end of a flow with the minimiser that Prop. 3, 4 or 5 states.

    The flow is a differential equation, the minimiser a convex program: they have
    nothing in common but alpha_effective.

    Args:
      solution: of `solve`, for these x [..., n, d] and y [..., n].
      tolerance: of the relative distance. A flow stopped at loss L is off by a multiple
        of sqrt(L), so the default is 20 sqrt(stop_loss) over the root mean square of y:
        2e-5 at a loss of 1e-12 and targets of size 1.
    """
    x, y = jnp.asarray(x, float), jnp.asarray(y, float)
    ended = solution.reached
    alpha = jnp.where(ended[..., None], solution.alpha_effective, 1)
    shift = jnp.where(ended[..., None], solution.shift, 0)
    minimum = potentials.minimize_potential(x, y, alpha, shift).beta
    length = jnp.linalg.norm(minimum, axis=-1)
    distance = jnp.linalg.norm(solution.beta - minimum, axis=-1)
    distance = jnp.where(ended, distance / jnp.where(length > 0, length, 1), jnp.inf)
    gradient = potentials.potential_gradient(solution.beta, alpha)
    multiplier = jnp.einsum("...nd,...n->...d", x, solution.nu) + shift
    largest = jnp.max(jnp.abs(gradient), -1)
    kkt = jnp.max(jnp.abs(gradient - multiplier), -1) / jnp.where(
        largest > 0, largest, 1
    )
    if tolerance is None:
        size = jnp.sqrt(jnp.mean(y**2, -1))
        tolerance = FACTOR * jnp.sqrt(solution.stop_loss) / jnp.where(size > 0, size, 1)
    tolerance = jnp.broadcast_to(jnp.asarray(tolerance), distance.shape)
    return Certificate(distance, kkt, tolerance, ended & (distance < tolerance))
