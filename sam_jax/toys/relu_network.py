"""One hidden layer of ReLU units on 12 points of the line.

The toy of the authors' later paper (Andriushchenko & Flammarion 2022, Fig. 4), with the
data of Maennel et al. 2018 and the start of Blanc et al. 2020. Gradient descent keeps
the kinks of the start; SAM flattens the function (its slope varies less).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sam_jax.core.objective import Objective

Params = dict[str, Float[Array, " width"]]
Points = tuple[Float[Array, " n"], Float[Array, " n"]]


def points() -> Points:
    """The 12 points (x, y)."""
    x = (jnp.arange(12.0) - 5.5) / 4 + 0.07
    y = jnp.array([-2, 1.5, 0, 0, 2, 1, 0, -1, 0, 1, 2, -1]) + 0.345
    return x, y


def start(key: Array, width: int = 100, scale: float = 1.0) -> Params:
    """Slopes +-2.5, biases N(0, 2.5^2) and outputs N(0, 4^2), all times `scale`."""
    slope_key, bias_key, output_key = jax.random.split(key, 3)
    return {
        "slope": 2.5 * scale * jax.random.rademacher(slope_key, (width,), float),
        "bias": 2.5 * scale * jax.random.normal(bias_key, (width,)),
        "output": 4.0 * scale * jax.random.normal(output_key, (width,)),
    }


def predict(params: Params, x: Float[Array, " n"]) -> Float[Array, " n"]:
    """f(x) = sum_j a_j max(s_j x + b_j, 0), with a the outputs and s the slopes."""
    hidden = jnp.outer(x, params["slope"]) + params["bias"]
    return jax.nn.relu(hidden) @ params["output"]


def objective() -> Objective:
    """The mean of (f(x_i) - y_i)^2 / 2; the batch is the pair (x, y).

    The authors descend the sum over the 12 points with step 5e-5: 6e-4 on the mean.
    """
    return Objective(
        predict=lambda params, batch: predict(params, batch[0]),
        loss=lambda outputs, batch: (outputs - batch[1]) ** 2 / 2,
    )


def slope_variation(params: Params, low: float, high: float) -> Float[Array, ""]:
    """Total variation of f' on (low, high): 0 for a straight line.

    Unit j has a kink at -b_j / s_j, where the slope of f changes by a_j |s_j|: this is
    the sum of |a_j s_j| over the kinks in the interval.
    """
    kinks = -params["bias"] / params["slope"]
    jumps = jnp.abs(params["output"] * params["slope"]) * (
        (low < kinks) & (kinks < high)
    )
    return jnp.sum(jumps)
