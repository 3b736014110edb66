"""The constants of the bounds, their conditions, and the schedules they are stated for.

Symbols of all bounds, beside those of `Constants`:

    loss       L(w_t)
    gradient2  |grad L(w_t)|^2
    gap        L(w_0) - L*
    decrease   L(w_0) - L(w_T), or L(w_0) - E L(w_T)
    distance2  |w_0 - w*|^2
    steps      T, >= 1
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Int, Shaped

from sam_jax.checks import Number


class Constants(NamedTuple):
    """beta: smoothness, of L (A2') or of every l_i (A2). gamma, rho: step sizes of
    descent and ascent, not normalised (Eq. 5, 18, 19). mu: of Polyak-Lojasiewicz (A3),
    or of strong convexity where a bound says so; 0 for none. variance: sigma^2 / b, of
    a minibatch gradient of b examples (A1).
    """

    beta: Number
    gamma: Number = 0.0
    rho: Number = 0.0
    mu: Number = 0.0
    variance: Number = 0.0

    @property
    def s(self) -> Number:
        """gamma beta: the descent's step size without units."""
        return self.gamma * self.beta

    @property
    def a(self) -> Number:
        """rho beta: the ascent's step size without units."""
        return self.rho * self.beta


def require(source: str, condition: str, holds: bool | np.bool_, c: Constants) -> None:
    """ValueError that names a bound, its condition and the constants, unless it holds.

    All constants must be finite, beta positive and the others not negative.
    """
    if not all(0 <= value < math.inf for value in c) or c.beta == 0:
        condition, holds = "finite constants >= 0 and beta > 0", False
    if not holds:
        raise ValueError(f"{source} needs {condition}; received {c}.")


def require_caps(source: str, gamma_cap: Number, rho_cap: Number, c: Constants) -> None:
    """ValueError unless gamma beta <= gamma_cap and rho beta <= rho_cap.

    Step sizes are set to their caps on purpose, so rounding is forgiven.
    """
    condition = f"gamma beta <= {gamma_cap:g} and rho beta <= {rho_cap:g}"
    slack = 1 + 1e-12
    require(source, condition, c.s <= gamma_cap * slack and c.a <= rho_cap * slack, c)


class Steps(NamedTuple):
    """gamma, rho: step sizes of descent and ascent, numbers or arrays over t."""

    gamma: Any
    rho: Any


def slow_steps(beta: Number, steps: Shaped[ArrayLike, "..."]) -> Steps:
    """gamma = 1 / (beta sqrt(T)), rho = 1 / (beta T^(1/4)), for all t (Prop. 2, 12)."""
    return Steps(1 / (beta * steps**0.5), 1 / (beta * steps**0.25))


def decreasing_steps(
    t: Int[ArrayLike, "..."], beta: Number, mu: Number, *, cap: Number = 1 / 16
) -> Steps:
    """The steps of Prop. 2, 12 and 18 under (A3), at iterations t = 0, 1, ...

        gamma_t = min{(8 t + 4) / (3 mu (t + 1)^2), cap / beta}
        rho_t = sqrt(gamma_t / beta)

    A cap of 1/16 makes rho_t <= 1 / (4 beta), as Lemma 17 needs. The printed caps
    disagree: one cannot be read, the other is 1/2, which allows rho_t = 0.7 / beta.
    """
    gamma = jnp.minimum((8 * t + 4) / (3 * mu * (t + 1) ** 2), cap / beta)
    return Steps(gamma, jnp.sqrt(gamma / beta))
