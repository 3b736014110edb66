"""Diagonal linear networks: beta as a product of two layers, start and loss.

Both networks predict <beta, x> and have the same dynamics in the coordinates w_+, w_-:

    squares   beta = w_+^2 - w_-^2,  loss r^2 / 4   (Eq. 8 and Sec. A of the paper)
    product   beta = u v,            loss r^2 / 2   (Fig. 9; w_+- = (u +- v) / 2)

with r = <beta, x> - y. The paper's start is w_+ = w_- = alpha, or u = alpha and v = 0,
that is w_+ = w_- = alpha / 2. (The caption of Fig. 9 starts at u = v = alpha, from
where beta >= 0 for ever; u = alpha, v = 0 reaches both signs.)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sam_jax import checks
from sam_jax.core.objective import Objective

Vector = Float[Array, " d"]


class Examples(NamedTuple):
    """x: inputs. y: targets."""

    x: Float[Array, "n d"]
    y: Float[Array, " n"]


class Squares(NamedTuple):
    """plus, minus: w_+ and w_- of beta = w_+^2 - w_-^2."""

    plus: Vector
    minus: Vector


class Product(NamedTuple):
    """u, v: the two layers of beta = u v."""

    u: Vector
    v: Vector


Params = Any  # Squares | Product, each with a network that knows it


class Network(NamedTuple):
    """objective: per-example losses weight * r^2, averaged over the examples.
    beta: parameters -> the linear predictor.
    split: parameters -> (w_+, w_-). join: (w_+, w_-) -> parameters; both are linear.
    unit: w_+ = w_- at the start, for alpha = 1.
    """

    objective: Objective
    weight: float
    unit: float
    beta: Callable[[Params], Vector]
    split: Callable[[Params], tuple[Vector, Vector]]
    join: Callable[[Vector, Vector], Params]

    def start(self, alpha: Float[Array, "..."] | float, d: int) -> Params:
        """The paper's parameters at time 0, [..., d] for alpha [...]."""
        alpha = jnp.asarray(alpha)
        scale = jnp.broadcast_to(self.unit * alpha[..., None], (*alpha.shape, d))
        return self.join(scale, scale)

    def layers(self, first: ArrayLike, second: ArrayLike) -> Params:
        """The parameters (w_+, w_-), or (u, v), from their two arrays."""
        kind = type(self.join(jnp.zeros(1), jnp.zeros(1)))
        return kind(jnp.asarray(first, float), jnp.asarray(second, float))

    def energy(self, params: Params) -> Vector:
        """w_+^2 + w_-^2."""
        plus, minus = self.split(params)
        return plus**2 + minus**2


def create(name: str) -> Network:
    """The network "squares" or "product"."""
    return checks.choose("parametrization", name, NETWORKS)


def _network(weight: float, beta: Callable[[Params], Vector], **parts) -> Network:
    def predict(params: Params, batch: Examples) -> Float[Array, " n"]:
        return batch.x @ beta(params)

    def loss(outputs: Float[Array, " n"], batch: Examples) -> Float[Array, " n"]:
        return weight * (outputs - batch.y) ** 2

    return Network(Objective(predict, loss), weight, beta=beta, **parts)


NETWORKS = {
    "squares": _network(
        1 / 4,
        lambda w: w.plus**2 - w.minus**2,
        unit=1.0,
        split=lambda w: (w.plus, w.minus),
        join=Squares,
    ),
    "product": _network(
        1 / 2,
        lambda w: w.u * w.v,
        unit=0.5,
        split=lambda w: ((w.u + w.v) / 2, (w.u - w.v) / 2),
        join=lambda plus, minus: Product(plus + minus, plus - minus),
    ),
}


def smoothness(
    x: Float[ArrayLike, "*seeds n d"],
    beta: Float[ArrayLike, "*seeds d"],
    bound: str = "example",
) -> Float[Array, "*seeds"]:
    """L of the step sizes gamma = rho = 1 / L, which the paper leaves undefined.

    Args:
      bound: "example", 2 max_i sum_j x_ij^2 |beta_j|: the largest eigenvalue, over
        single examples, of the Hessian at a vanishing start's interpolator beta.
        Every method of Fig. 9 is stable with it. "linear", the largest eigenvalue of
        X^T X / n: the L of the linear model, with which SumMax SGD often diverges.
    """
    x, beta = jnp.asarray(x), jnp.asarray(beta)
    bounds = {
        "example": lambda: (
            2 * jnp.max(jnp.sum(x**2 * jnp.abs(beta)[..., None, :], -1), -1)
        ),
        "linear": lambda: jnp.linalg.norm(x, 2, axis=(-2, -1)) ** 2 / x.shape[-2],
    }
    return checks.choose("bound", bound, bounds)()
