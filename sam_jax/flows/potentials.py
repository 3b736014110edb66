"""The potential phi_alpha of Eq. 12 and its minimiser on {X beta = y}.

    phi_alpha(beta) = sum_j alpha_j^2 q(beta_j / alpha_j^2),
    q(z) = 2 - sqrt(4 + z^2) + z arcsinh(z / 2).

It is close to an l1 norm for small alpha and to an l2 norm for large alpha. A flow with
start alpha ends at its minimiser (Eq. 13), a flow with perturbations at the minimiser
for alpha_effective (Prop. 4, 5).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from sam_jax.flows import inputs

MAX_ITERATIONS = 200
MAX_MOVE = 2.0  # of z = X^T nu in one step: sinh changes by a factor e^2 at most
ARMIJO = 1e-4
FEASIBLE = 1e-12  # relative; about 1e-15 is reached
LAST_STEP = 1e-10  # relative slope of the dual from where one more step ends it
RANK = 1e-12  # singular values below this share of the largest count as zero


def potential(
    beta: Float[ArrayLike, "*batch d"], alpha: Float[ArrayLike, "..."]
) -> Float[Array, "*batch"]:
    """phi_alpha(beta), Eq. 12; alpha is a number, or [..., d]."""
    alpha = jnp.asarray(alpha)
    z = beta / alpha**2
    # 2 - sqrt(4 + z^2) without its cancellation at small z
    head = -(z**2) / (2 + jnp.sqrt(4 + z**2))
    return jnp.sum(alpha**2 * (head + z * jnp.arcsinh(z / 2)), -1)


def potential_gradient(
    beta: Float[ArrayLike, "*batch d"], alpha: Float[ArrayLike, "..."]
) -> Float[Array, "*batch d"]:
    """d phi_alpha / d beta = arcsinh(beta / (2 alpha^2))."""
    return jnp.arcsinh(beta / (2 * jnp.asarray(alpha) ** 2))


class Minimum(NamedTuple):
    """beta: argmin phi_alpha on {X beta = y}. nu: multiplier, grad phi = X^T nu, plus
    the shift. infeasibility: |X beta - y| / |y|. iterations: Newton steps.
    """

    beta: Float[Array, "*batch d"]
    nu: Float[Array, "*batch n"]
    infeasibility: Float[Array, "*batch"]
    iterations: Int[Array, "*batch"]


def minimize_potential(
    x: ArrayLike, y: ArrayLike, alpha: ArrayLike, shift: ArrayLike = 0.0
) -> Minimum:
    """argmin phi_alpha(beta) - <shift, beta> subject to X beta = y (Eq. 4, 13), by
    Newton on the dual

        min_nu  sum_j 2 alpha_j^2 (cosh z_j - 1) - nu^T y,   z = X^T nu + shift,

    where beta = 2 alpha^2 sinh z. About ten steps, to rounding.

    Args:
      x: inputs [..., n, d] of any rank. y: targets [..., n] in the range of X.
      alpha: positive scale, a number, or one a feature, [..., d].
      shift: log w_+ / w_- of a start (see `solver`), a number, or [d], or [..., d].

    Raises: ValueError for unsuitable arguments (see `inputs.problems`), and where
      Newton's method stops before X beta = y (under jit and vmap, `infeasibility` says
      so instead).
    """
    x, y = jnp.asarray(x, float), jnp.asarray(y, float)
    alpha = jnp.asarray(alpha, float)
    if alpha.ndim and alpha.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            f"Received alpha of shape {alpha.shape} for x of shape {x.shape}; give a "
            "number, or alpha [..., d]: one a feature."
        )
    # alpha's batch axes without its features take part as that of the smallest alpha
    given = inputs.problems(x, y, alpha=jnp.min(alpha, -1) if alpha.ndim else alpha)
    d = x.shape[-1]
    alpha = jnp.broadcast_to(alpha, (*given.shape, d)).reshape(-1, d)
    flat = _minimize(given.x, given.y, alpha, inputs.features(given, "shift", shift))
    if inputs.known(flat.beta):
        worst = float(jnp.max(flat.infeasibility))
        if not worst <= FEASIBLE:
            raise ValueError(
                f"Newton's method stopped at |X beta - y| / |y| = {worst:.3g} for "
                f"alpha in [{float(alpha.min()):.3g}, {float(alpha.max()):.3g}]; give "
                "a larger alpha, or better conditioned inputs."
            )
    return jax.tree.map(lambda a: a.reshape(*given.shape, *a.shape[1:]), flat)


@jax.jit
@jax.vmap
def _minimize(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    alpha: Float[Array, " d"],
    shift: Float[Array, " d"],
) -> Minimum:
    # Rows of V^T are orthonormal and span those of X: same constraints, any rank.
    u, sizes, rows = jnp.linalg.svd(x, full_matrices=False)
    present = sizes > RANK * sizes[0]
    inverse = jnp.where(present, 1 / jnp.where(present, sizes, 1), 0)
    rows = jnp.where(present[:, None], rows, 0)
    target = inverse * (u.T @ y)
    square = 2 * alpha**2

    def exponent(mu):
        return mu @ rows + shift

    def dual(mu):  # cosh z - 1 = 2 sinh(z / 2)^2, without the cancellation
        return jnp.sum(2 * square * jnp.sinh(exponent(mu) / 2) ** 2) - mu @ target

    def step(state):
        mu, iterations, _ = state
        z = exponent(mu)
        slope = rows @ (square * jnp.sinh(z)) - target
        curvature = (rows * (square * jnp.cosh(z))) @ rows.T + jnp.diag(1.0 - present)
        move = -jnp.linalg.solve(curvature, slope)
        move *= jnp.minimum(1, MAX_MOVE / jnp.max(jnp.abs(move @ rows)))
        value, decrease = dual(mu), ARMIJO * slope @ move
        noise = 1e-14 * jnp.abs(value)

        def too_long(size):
            return ~(dual(mu + size * move) <= value + size * decrease + noise)

        size = jax.lax.while_loop(
            lambda size: too_long(size) & (size > 1e-10), lambda size: size / 2, 1.0
        )
        return mu + size * move, iterations + 1, jnp.linalg.norm(slope)

    def unfinished(state):  # what a last step squares is below rounding
        _, iterations, slope = state
        return (slope > LAST_STEP * jnp.linalg.norm(target)) & (
            iterations < MAX_ITERATIONS
        )

    start = (jnp.zeros_like(target), 0, jnp.inf)
    mu, iterations, _ = jax.lax.while_loop(unfinished, step, start)
    beta = square * jnp.sinh(exponent(mu))
    size = jnp.linalg.norm(y)
    misfit = jnp.linalg.norm(x @ beta - y) / jnp.where(size > 0, size, 1)
    return Minimum(beta, u @ (inverse * mu), misfit, jnp.asarray(iterations))
