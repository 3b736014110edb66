"""Least squares as objectives: their Hessian and their sharpness are closed forms."""

import jax.numpy as jnp
import numpy as np

from sam_jax.core.objective import Objective

# L(w) = mean_i (b_i . w)^2 / 2, so H = B^T B / n; an error is a prediction over 1.
SQUARES = Objective(
    predict=lambda params, batch: batch["x"] @ params["w"],
    loss=lambda outputs, batch: 0.5 * outputs**2,
)


def over_one(outputs, batch):
    return jnp.abs(outputs) > 1


def problem(n=12, d=5, seed=0):
    """(params, batch, Hessian)."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) * np.arange(1, d + 1)
    w = random.normal(size=d)
    return {"w": jnp.asarray(w)}, {"x": jnp.asarray(x)}, x.T @ x / n


def largest_rise(hessian, w, rho):
    """max over |delta| <= rho of L(w + delta) - L(w), L = v^T H v / 2.

    The maximiser solves (mu I - H) delta = H w, |delta| = rho, mu above all
    eigenvalues; its length falls with mu, so mu is found by bisection.
    """
    values, vectors = np.linalg.eigh(hessian)
    slope = vectors.T @ hessian @ w
    low, high = values[-1], values[-1] + np.linalg.norm(slope) / rho + 1
    for _ in range(200):
        mu = (low + high) / 2
        longer = np.linalg.norm(slope / (mu - values)) > rho
        low, high = (mu, high) if longer else (low, mu)
    delta = vectors @ (slope / (mu - values))
    v = w + delta
    return (v @ hessian @ v - w @ hessian @ w) / 2
