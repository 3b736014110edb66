"""Gradients that the flows and iterations follow, and what App. A knows of them.

Three kinds of flow and iteration, told apart by who shares a perturbation:

    erm       nobody: rho = 0                                                (Eq. 9)
    max_sum   all n examples, w + rho grad L(w)                             (Eq. 10)
    sum_max   each group J of m, w + rho grad L_J(w); m = 1 in the paper    (Eq. 11)

`gradient` is the library's compiled core. The functions below it are the closed forms
of App. A for groups of m, which observe a flow and test the core. With c_J =
(rho / m) X_J^T r_J and s = w_+^2 + w_-^2, a group's residuals at its ascent point are

    r_{J,+} = r_J + X_J (2 c_J s + c_J^2 beta)

and, with a = (1/n) sum_J X_J^T r_{J,+} and b = (1/n) sum_J c_J X_J^T r_{J,+}, the
gradients are w_+ (b + a) and w_- (b - a) in w_+ and w_-; a v + b u and a u + b v in u
and v. (The paper prints half of each, which fits a loss r^2 / 8.)
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sam_jax.core import ascent, trees
from sam_jax.core import gradient as core
from sam_jax.flows import networks

KINDS = ("erm", "max_sum", "sum_max")


def group_size(kind: str, m: int, n: int) -> int:
    """Examples that share a perturbation; all n of them for max_sum and erm (rho = 0).

    Raises: ValueError for an unknown kind, and for an m that `kind` or n excludes.
    """
    if kind not in KINDS:
        raise ValueError(f"Received kind={kind!r}; it must be one of {KINDS}.")
    if kind != "sum_max" and m != 1:
        raise ValueError(
            f"Received m={m} with kind={kind!r}; groups of m belong to sum_max alone."
        )
    if m < 1 or n % m:
        allowed = [k for k in range(1, n + 1) if n % k == 0]
        raise ValueError(f"Received m={m} for {n} examples; give one of {allowed}.")
    return m if kind == "sum_max" else n


def gradient(
    network: networks.Network,
    params: networks.Params,
    examples: networks.Examples,
    *,
    rho: trees.Scalar,
    m: int | None,
    rule: ascent.Rule = ascent.unnormalized,
    **options: Any,
) -> core.Gradient:
    """The core's gradient with groups of m; the flow's vector field is minus it.

    Args:
      rho: ascent step, >= 0.
      m: examples that share a perturbation; None or n for all.
      rule: `ascent.normalized` for perturbations of length rho.
      options: further ones of `core.gradient.sharpness_aware_gradient`.
    """
    return core.sharpness_aware_gradient(
        network.objective, params, examples, rho=rho, m=m, rule=rule, **options
    )


def ascended_residuals(
    network: networks.Network,
    params: networks.Params,
    examples: networks.Examples,
    *,
    rho: Float[Array, ""] | float,
    m: int,
) -> Float[Array, " n"]:
    """r_+: every example's residual at the ascent point of its group of m.

    m = n is MaxSum; for m = 1, r_{i,+} = r_i + 2 rho r_i <s, x_i^2> + rho^2 r_i^2
    <beta, x_i^3> (App. A, before Eq. 15, where the last term misses a factor rho).
    """
    beta, energy = network.beta(params), network.energy(params)
    residuals = examples.x @ beta - examples.y
    if m == 1:  # x^2 and x^3 are constants here: no [n, d] array is made
        c = rho * residuals
        rise = 2 * c * (examples.x**2 @ energy) + c**2 * (examples.x**3 @ beta)
        return residuals + rise
    grouped, pulled = _pull(examples.x, residuals, m)
    c = rho / m * pulled
    rise = jnp.einsum("gmd,gd->gm", grouped, 2 * c * energy + c**2 * beta)
    return residuals + rise.reshape(-1)


def shrinkage(
    x: Float[Array, "n d"],
    residuals: Float[Array, " n"],
    ascended: Float[Array, " n"],
    *,
    m: int,
) -> Float[Array, " d"]:
    """d/dt Delta = (1 / (n m)) sum_J (X_J^T r_{J,+}) (X_J^T r_J).

    alpha_effective = alpha exp(-rho Delta). m = n is Prop. 4 (which prints
    1 / (4 n^2) for 1 / n^2), m = 1 Prop. 5 (which prints 1 / (4 n) for 1 / n).
    """
    if m == 1:
        return (residuals * ascended) @ x**2 / len(residuals)
    _, here = _pull(x, residuals, m)
    _, there = _pull(x, ascended, m)
    return jnp.sum(here * there, 0) / (len(residuals) * m)


def _pull(
    x: Float[Array, "n d"], residuals: Float[Array, " n"], m: int
) -> tuple[Float[Array, "g m d"], Float[Array, "g d"]]:
    """X_J and X_J^T r_J of the groups J of m consecutive examples."""
    grouped = x.reshape(-1, m, x.shape[-1])
    return grouped, jnp.einsum("gmd,gm->gd", grouped, residuals.reshape(-1, m))
