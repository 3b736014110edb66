"""The bounds that App. B states otherwise than `corrected`, as they are printed.

For comparison only. Each docstring says whether the form is false or merely loose;
conditions are those printed.
"""

from jaxtyping import ArrayLike, Shaped

from sam_jax.theory import corrected
from sam_jax.theory.constants import Constants, require

Values = Shaped[ArrayLike, "..."]


def lemma_8_convex(c: Constants, loss: Values, gradient2: Values) -> Values:
    """False: asks for gamma beta (2 - rho beta) <= 2, and for (A3) only.

    On beta w^2 / 2 with gamma beta = 1 and rho beta = 2 the loss grows fourfold.
    """
    condition = "gamma beta (2 - rho beta) <= 2"
    source = "Lemma 8, second part, as printed,"
    require(source, condition, c.s * (2 - c.a) <= 2, c)
    return loss - corrected.convex_descent(c) * gradient2


def proposition_9(c: Constants, decrease: Values, steps: Values) -> Values:
    """True and loose: 1 - gamma beta (1 - rho beta), without the half."""
    tight = corrected.proposition_9(c, decrease, steps)
    slope = c.s * (1 - c.a)
    return tight * (1 - slope / 2) / (1 - slope)


def proposition_11_distance(c: Constants, distance2: Values, steps: Values) -> Values:
    """False for beta > 2: a factor (2 rho + 1) for (rho beta + 1)."""
    true = corrected.proposition_11_distance(c, distance2, steps)
    return true * (2 * c.rho + 1) / (c.a + 1)


def proposition_15(c: Constants, decrease: Values, steps: Values) -> Values:
    """True and empty for large T: a factor T too much on the noise."""
    tight = corrected.proposition_15(c, decrease, steps)
    return tight + 4 * corrected.noise(c) * (steps - 1)


def lemma_17(c: Constants, loss: Values, gradient2: Values) -> Values:
    """True and loose: 2 rho^2 beta for rho^2 beta in the noise."""
    tight = corrected.lemma_17(c, loss, gradient2)
    return tight + c.gamma * c.a**2 * c.variance


def proposition_18(c: Constants, decrease: Values, steps: Values) -> Values:
    """True and empty for large T: a factor T too much on the noise."""
    tight = corrected.proposition_18(c, decrease, steps)
    return tight + 8 / 3 * corrected.noise(c) * (steps - 1)


def proposition_2_gradient(c: Constants, gap: Values, steps: Values) -> Values:
    """False for beta > 1: 4 / beta, not in the units of |grad L|^2, for 4 beta."""
    return (4 * gap / c.beta + 8 * c.variance) / steps**0.5


def proposition_2_loss(c: Constants, gap: Values, steps: Values) -> Values:
    """False with `decreasing_steps`: 3 for 247."""
    transient = 3 * (c.beta / c.mu) ** 2 * gap / steps**2
    return transient + 22 * c.beta * c.variance / (c.mu**2 * steps)


proposition_12_gradient = proposition_2_gradient
proposition_12_loss = proposition_18_loss = proposition_2_loss
