"""Test functions with known constants of smoothness, convexity and Polyak-Lojasiewicz.

    beta-smooth (A2, A2'):    |grad L(w) - grad L(v)| <= beta |w - v|
    mu-PL (A3):               |grad L(w)|^2 / 2 >= mu (L(w) - L*)
    strongly convex:          L - strong |w|^2 / 2 is convex

All have L* = 0 at w = 0 and act on vectors of any dimension.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sam_jax.core.objective import Objective

Vector = Float[Array, " d"]


class Function(NamedTuple):
    """value: L. beta: smoothness. mu: PL constant, 0 for none. strong: of strong
    convexity; 0 if just convex, None if not convex.
    """

    value: Callable[[Vector], Float[Array, ""]]
    beta: float
    mu: float = 0.0
    strong: float | None = None


def quadratic(curvatures: Sequence[float] | Float[ArrayLike, " d"]) -> Function:
    """1/2 sum_j lambda_j w_j^2 with lambda > 0."""
    curvatures = np.asarray(curvatures)
    low, high = float(curvatures.min()), float(curvatures.max())
    return Function(lambda w: jnp.sum(curvatures * w**2) / 2, high, low, low)


def sine_squared() -> Function:
    """sum_j w_j^2 + 3 sin^2 w_j: not convex, and PL (Karimi et al. 2016, Sec. 2.2).

    L'' = 2 + 6 cos 2w gives beta = 8; mu = 0.1755 is the minimum over w of
    (2 w + 3 sin 2w)^2 / (2 (w^2 + 3 sin^2 w)), near w = 2.25, rounded down.
    """
    return Function(lambda w: jnp.sum(w**2 + 3 * jnp.sin(w) ** 2), 8.0, 0.1755)


def pseudo_huber() -> Function:
    """sum_j sqrt(1 + w_j^2) - 1: convex with beta = 1, strongly so for no constant."""

    def value(w):
        return jnp.sum(w**2 / (1 + jnp.sqrt(1 + w**2)))  # no cancellation near 0

    return Function(value, beta=1.0, strong=0.0)


def cosine() -> Function:
    """sum_j 1 - cos w_j: beta = 1, with maxima and saddles, neither convex nor PL."""
    return Function(lambda w: jnp.sum(2 * jnp.sin(w / 2) ** 2), beta=1.0)


def one_sided(steepness: float, strong: float, angle: float, scale: float) -> Function:
    """A quadratic and the half of a steeper one aslant to it: convex, d = 2.

        L(w) = scale / 2 (strong |w|^2 + <u, w>^2 + steepness max(<v, w>, 0)^2)

    u = (1, 0) and v = (cos angle, sin angle). A long ascent along u enters the steep
    half, whose gradient leads away from the minimum: the distance to it can grow, as it
    cannot on a quadratic.
    """

    def value(w):
        steep = jnp.maximum(w[0] * math.cos(angle) + w[1] * math.sin(angle), 0)
        squares = strong * jnp.sum(w**2) + w[0] ** 2 + steepness * steep**2
        return scale * squares / 2

    beta = scale * (1 + steepness + strong)
    return Function(value, beta, scale * strong, scale * strong)


def noisy(function: Function) -> Objective:
    """l_c(w) = L(w) + <c, w>: every example adds a constant c to the gradient.

    The batch is an array of such c, f[B, d]. With c of mean zero over the data set the
    mean loss is L, the variance in (A1) is sigma^2 = mean |c|^2 at every w, and every
    l_c is as smooth as L (A2). A batch of zeros, f[1, d], leaves L alone.
    """
    return Objective(
        predict=lambda w, shifts: function.value(w) + shifts @ w,
        loss=lambda outputs, shifts: outputs,
    )
