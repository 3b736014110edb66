"""Every bound of App. B in the form that has a proof.

A bound takes `Constants`, whose conditions it checks, and the quantities listed in
`constants`, numbers or arrays, so that a whole trajectory is checked at once. The
docstrings say what is printed otherwise.
"""

import numpy as np
from jaxtyping import ArrayLike, Shaped

from sam_jax.checks import Number
from sam_jax.theory.constants import Constants, require, require_caps

Values = Shaped[ArrayLike, "..."]


def lemma_7(c: Constants, gradient2: Values, alpha: Number) -> Values:
    """Lower bound on <grad L(w + rho grad L(w)), grad L(w)>.

    (1 + alpha rho) |grad L(w)|^2

    Args:
      alpha: -beta for a smooth L, 0 for a convex one, and the constant of strong
        convexity for a strongly convex one.
    """
    require("Lemma 7", "rho >= 0", True, c)
    return (1 + alpha * c.rho) * gradient2


def lemma_8(c: Constants, loss: Values, gradient2: Values) -> Values:
    """Upper bound on L(w_{t+1}) of Eq. (18), for gamma <= 1 / beta.

    L(w_t) - gamma (1 - rho beta) (1 - gamma beta (1 - rho beta) / 2) |grad L(w_t)|^2
    """
    require("Lemma 8", "gamma beta <= 1", c.s <= 1, c)
    return loss - _descent(c) * gradient2


def lemma_8_convex(c: Constants, loss: Values, gradient2: Values) -> Values:
    """The same for convex L, mu-strongly so if mu > 0; gamma beta (2 + rho beta) <= 2.

    L(w_t) - gamma (1 - gamma beta / 2 + rho mu (1 - gamma beta - gamma beta rho beta /
    2)) |grad L(w_t)|^2

    Printed with gamma beta (2 - rho beta) <= 2, where a step may go uphill, and under
    (A3) alone, although the proof uses co-coercivity, which is convexity.
    """
    condition = "gamma beta (2 + rho beta) <= 2"
    require("Lemma 8, second part,", condition, c.s * (2 + c.a) <= 2, c)
    return loss - convex_descent(c) * gradient2


def proposition_6_gradient(c: Constants, gap: Values, steps: Values) -> Values:
    """Mean of |grad L(w_t)|^2 over t < T.

    2 gap / (gamma (1 - rho beta) T)

    The numerator cannot be read in the copy at hand; this one follows from Prop. 9.
    """
    _require_below_one("Prop. 6", c)
    return 2 * gap / (c.gamma * (1 - c.a) * steps)


def proposition_6_loss(c: Constants, gap: Values, steps: Values) -> Values:
    """L(w_T) - L* under (A3): (1 - gamma (1 - rho beta) mu)^T gap."""
    _require_below_one("Prop. 6", c)
    return (1 - c.gamma * (1 - c.a) * c.mu) ** steps * gap


def proposition_9(c: Constants, decrease: Values, steps: Values) -> Values:
    """Mean of |grad L(w_t)|^2 over t < T.

    decrease / (T gamma (1 - rho beta) (1 - gamma beta (1 - rho beta) / 2))

    Printed without the half: true, and looser than what its proof gives.
    """
    _require_below_one("Prop. 9", c)
    return decrease / (steps * _descent(c))


def proposition_10(c: Constants, gap: Values, steps: Values) -> Values:
    """L(w_T) - L* under (A3).

    (1 - 2 gamma mu (1 - rho beta) (1 - gamma beta (1 - rho beta) / 2))^T gap
    """
    _require_below_one("Prop. 10", c)
    return (1 - 2 * c.mu * _descent(c)) ** steps * gap


def proposition_11_loss(c: Constants, distance2: Values, steps: Values) -> Values:
    """L at the mean of w_0, ..., w_{T-1}, minus L*, for convex L.

    (1 + rho beta) |w_0 - w*|^2 / (gamma (2 - gamma beta (1 + rho beta)) T)

    The printed numerator cannot be read in the copy at hand.
    """
    slope = _convex_slope(c)
    return (1 + c.a) * distance2 / (c.gamma * slope * steps)


def proposition_11_distance(c: Constants, distance2: Values, steps: Values) -> Values:
    """|w_T - w*|^2 for mu-strongly convex L.

    (1 - gamma mu (2 - gamma beta (1 + rho beta)))^T (1 + rho beta) |w_0 - w*|^2

    Printed with a factor (2 rho + 1), which changes with the units of w; false for
    beta > 2.
    """
    rate = 1 - c.gamma * c.mu * _convex_slope(c)
    return rate**steps * (1 + c.a) * distance2


def lemma_13(c: Constants, gradient2: Values) -> Values:
    """Lower bound on E <grad L_I(w + rho grad L_J(w)), grad L(w)>, I and J independent.

    (1/2 - rho beta) |grad L(w)|^2 - (rho beta)^2 variance / 2, under (A1) and (A2').
    """
    require("Lemma 13", "rho >= 0", True, c)
    return (1 / 2 - c.a) * gradient2 - c.a**2 * c.variance / 2


def lemma_14(c: Constants, loss: Values, gradient2: Values) -> Values:
    """Upper bound on E L(w_{t+1}) of MaxSum, Eq. (19), for gamma, rho <= 1 / (2 beta).

    E L(w_t) - gamma / 4 E |grad L(w_t)|^2 + gamma beta (gamma + rho^2 beta) variance
    """
    require_caps("Lemma 14", 1 / 2, 1 / 2, c)
    return loss - c.gamma * gradient2 / 4 + c.gamma * noise(c)


def proposition_15(c: Constants, decrease: Values, steps: Values) -> Values:
    """Mean of E |grad L(w_t)|^2 over t < T of MaxSum; gamma, rho <= 1 / (2 beta).

    4 decrease / (gamma T) + 4 beta (gamma + rho^2 beta) variance

    Printed with a further factor T on the noise.
    """
    require_caps("Prop. 15", 1 / 2, 1 / 2, c)
    return 4 * decrease / (c.gamma * steps) + 4 * noise(c)


def lemma_16(c: Constants, gradient2: Values) -> Values:
    """Lower bound on E <grad L_I(w + rho grad L_I(w)), grad L(w)>: one batch for both.

    The same as in Lemma 13, under (A1) and (A2).
    """
    require("Lemma 16", "rho >= 0", True, c)
    return lemma_13(c, gradient2)


def lemma_17(c: Constants, loss: Values, gradient2: Values) -> Values:
    """Upper bound on E L(w_{t+1}) of Eq. (5) for gamma <= 1/beta, rho <= 1/(4 beta).

    E L(w_t) - 3 gamma / 8 E |grad L(w_t)|^2 + gamma beta (gamma + rho^2 beta) variance

    Printed with 2 rho^2 beta. The proof in print leaves gamma / 4 where it says 3/8:
    Lemma 16 must split off |grad L|^2 / 4, not / 2, and so pay (rho beta)^2 variance.
    """
    require_caps("Lemma 17", 1, 1 / 4, c)
    return loss - 3 * c.gamma * gradient2 / 8 + c.gamma * noise(c)


def proposition_18(c: Constants, decrease: Values, steps: Values) -> Values:
    """Mean of E |grad L(w_t)|^2 over t < T; gamma <= 1 / beta, rho <= 1 / (4 beta).

    8 decrease / (3 gamma T) + 8/3 beta (gamma + rho^2 beta) variance

    Printed with a further factor T on the noise.
    """
    require_caps("Prop. 18", 1, 1 / 4, c)
    return 8 * decrease / (3 * c.gamma * steps) + 8 * noise(c) / 3


def proposition_2_gradient(c: Constants, gap: Values, steps: Values) -> Values:
    """Mean of E |grad L(w_t)|^2 over t < T with `slow_steps`, for T >= 256.

    4 beta gap / sqrt(T) + 8 variance / sqrt(T)

    Prop. 18, whose rho <= 1 / (4 beta) is T >= 256. Printed for all T, with 4 / beta.
    """
    require(f"Prop. 2 with T = {steps}", "T >= 256", np.min(steps) >= 256, c)
    return (4 * c.beta * gap + 8 * c.variance) / steps**0.5


def proposition_12_gradient(c: Constants, gap: Values, steps: Values) -> Values:
    """The same for MaxSum, from Prop. 15: T >= 16 is enough."""
    require(f"Prop. 12 with T = {steps}", "T >= 16", np.min(steps) >= 16, c)
    return (4 * c.beta * gap + 8 * c.variance) / steps**0.5


def proposition_2_loss(c: Constants, gap: Values, steps: Values) -> Values:
    """E L(w_T) - L* under (A3) with `decreasing_steps`.

    247 beta^2 gap / (mu^2 T^2) + 22 beta variance / (mu^2 T)

    Also of Prop. 12 and 18: with these steps MaxSum descends as in Lemma 17. Printed
    with 3 for 247.
    """
    require("Prop. 2", "0 < mu <= beta", 0 < c.mu <= c.beta, c)
    condition = c.beta / c.mu
    transient = 247 * condition**2 * gap / steps**2
    return transient + 22 * condition * c.variance / (c.mu * steps)


proposition_12_loss = proposition_18_loss = proposition_2_loss


def convex_descent(c: Constants) -> Number:
    """What lemma_8_convex has before |grad L(w_t)|^2, in either form."""
    tilt = c.rho * c.mu * (1 - c.s - c.s * c.a / 2)
    return c.gamma * (1 - c.s / 2 + tilt)


def noise(c: Constants) -> Number:
    """beta (gamma + rho^2 beta) variance: what minibatches add to |grad L|^2."""
    return c.beta * (c.gamma + c.rho**2 * c.beta) * c.variance


def _descent(c: Constants) -> Number:
    """What lemma_8 has before |grad L(w_t)|^2."""
    return c.gamma * (1 - c.a) * (1 - c.s * (1 - c.a) / 2)


def _convex_slope(c: Constants) -> Number:
    """2 - gamma beta (1 + rho beta), which Prop. 11 asks to be positive."""
    slope = 2 - c.s * (1 + c.a)
    condition = "gamma > 0 and gamma beta (1 + rho beta) < 2"
    require("Prop. 11", condition, c.gamma > 0 and slope > 0, c)
    return slope


def _require_below_one(source: str, c: Constants) -> None:
    condition = "0 < gamma < 1 / beta and rho < 1 / beta"
    require(source, condition, 0 < c.s < 1 and c.a < 1, c)
