"""The Hessian by its products with vectors: largest eigenvalues, trace, density.

Products are forward over reverse, at the cost of a few gradients, over one batch or a
list of batches. Lanczos and Hutchinson run as Python loops around the compiled product,
where the ready-made ones (`matfree`) put it inside a compiled loop (why: see
`sam_jax.ops.loops`). The tests hold them against `matfree`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from sam_jax import checks
from sam_jax.core import trees
from sam_jax.core.objective import Objective

Tree = Any
Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class Tridiagonal(NamedTuple):
    """T = Q^T H Q after k steps: diagonal f[k], off f[k-1]; vectors Q^T f[k, n]."""

    diagonal: np.ndarray
    off: np.ndarray
    vectors: Float[Array, "k n"]


class Density(NamedTuple):
    """Ritz values and their weights, one row a random start, f[starts, k] each.

    Weights of a row add up to 1: the mean over rows of sum_j weight_j f(value_j)
    estimates tr f(H) / n.
    """

    values: np.ndarray
    weights: np.ndarray

    def smooth(
        self, grid: Float[np.ndarray, " points"], width: float
    ) -> Float[np.ndarray, " points"]:
        """The density on a grid, every Ritz value widened to a Gaussian."""
        z = (grid - self.values[..., None]) / width
        bumps = np.exp(-0.5 * z**2) / (width * np.sqrt(2 * np.pi))
        return np.mean(np.sum(self.weights[..., None] * bumps, axis=1), axis=0)

    def moment(self, power: int) -> float:
        """tr H^power / n."""
        return float(np.mean(np.sum(self.weights * self.values**power, axis=1)))


@functools.partial(jax.jit, static_argnames="objective")
def hessian_vector_product(
    objective: Objective, params: Tree, batch: Tree, vector: Tree
) -> Tree:
    """H v, with H the Hessian of mean loss plus penalty; zeros at integer leaves."""
    leaves, rebuild = trees.floating(params)
    pairs = zip(trees.floating(vector)[0], leaves, strict=True)
    tangent = [v.astype(w.dtype) for v, w in pairs]

    def gradient(x):
        return jax.grad(lambda y: objective.value(rebuild(y), batch))(x)

    return rebuild(jax.jvp(gradient, (leaves,), (tangent,))[1], fill=0)


def flat_product(
    objective: Objective, params: Tree, batches: Tree | Sequence[Tree]
) -> tuple[Product, int]:
    """v -> H v on vectors of all floating parameters, and their number n.

    Args:
      batches: one batch, or a list of equal ones, over which H is a mean.
    """
    batches = batches if isinstance(batches, list) else [batches]

    def product(v):
        total = jnp.zeros_like(v)
        for batch in batches:
            total = total + _flat_product(objective, params, batch, v)
        return total / len(batches)

    return product, sum(jnp.size(leaf) for leaf in trees.floating(params)[0])


@functools.partial(jax.jit, static_argnames="objective")
def _flat_product(objective: Objective, params: Tree, batch: Tree, v: Array) -> Array:
    leaves, rebuild = trees.floating(params)
    _, unravel = ravel_pytree(leaves)
    vector = rebuild(unravel(v), fill=None)
    product = hessian_vector_product(objective, params, batch, vector)
    return ravel_pytree(trees.floating(product)[0])[0]


def lanczos(product: Product, start: Float[Array, " n"], steps: int) -> Tridiagonal:
    """Lanczos with full reorthogonalisation from a start vector.

    Ends early when the Krylov space is exhausted: k <= steps.
    """
    checks.integer("steps", steps, 1)
    q = start / jnp.linalg.norm(start)
    rows = [q]
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(min(steps, start.size)):
        w, along, norm = _orthogonalize(product(rows[-1]), tuple(rows))
        diagonal.append(float(along))
        b = float(norm)
        scale = max(np.max(np.abs(diagonal)), *off, 0.0) if off else abs(diagonal[0])
        if len(diagonal) == steps or b <= jnp.finfo(q.dtype).eps ** 0.75 * scale:
            break
        off.append(b)
        rows.append(w / b)
    return Tridiagonal(np.array(diagonal), np.array(off), jnp.stack(rows))


@jax.jit
def _orthogonalize(w: Array, basis: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """w less its part in the span of the basis, its product with the last vector of the
    basis, and the norm of what is left."""
    rows = jnp.stack(basis)
    along = rows @ w
    w = w - along @ rows
    w = w - (rows @ w) @ rows
    return w, along[-1], jnp.linalg.norm(w)


def top_eigenvalues(
    objective: Objective,
    params: Tree,
    batches: Tree | list[Tree],
    key: jax.Array,
    *,
    count: int = 1,
    steps: int = 30,
) -> Float[np.ndarray, " count"]:
    """The algebraically largest eigenvalues of the Hessian, descending.

    Each is a Ritz value of one Krylov space, hence a lower bound; 30 steps give the
    first to a few digits where it stands apart. A multiple eigenvalue counts once.

    Raises: ValueError for a count above the number of Ritz values.
    """
    product, size = flat_product(objective, params, batches)
    start = jax.random.normal(key, (size,), _dtype(params))
    found = ritz(lanczos(product, start, steps))[0][::-1]
    if not 1 <= count <= len(found):
        raise ValueError(
            f"Received count={count}; {len(found)} steps of Lanczos give so many "
            "eigenvalues at most: ask for fewer, or raise steps."
        )
    return found[:count]


def trace(
    objective: Objective,
    params: Tree,
    batches: Tree | list[Tree],
    key: jax.Array,
    *,
    samples: int = 30,
) -> tuple[float, float]:
    """Hutchinson's estimate of tr H from random signs, and its standard error."""
    checks.integer("samples", samples, 2)
    product, size = flat_product(objective, params, batches)
    values = []
    for draw in jax.random.split(key, samples):
        v = jax.random.rademacher(draw, (size,), _dtype(params))
        values.append(float(jnp.vdot(v, product(v))))
    return float(np.mean(values)), float(np.std(values, ddof=1) / samples**0.5)


def spectral_density(
    objective: Objective,
    params: Tree,
    batches: Tree | list[Tree],
    key: jax.Array,
    *,
    steps: int = 30,
    starts: int = 3,
) -> Density:
    """Stochastic Lanczos quadrature (Ghorbani et al. 2019, Alg. 1).

    Args:
      steps: of Lanczos, k. starts: random start vectors.
    """
    checks.integer("starts", starts, 1)
    product, size = flat_product(objective, params, batches)
    pairs = []
    for draw in jax.random.split(key, starts):
        start = jax.random.normal(draw, (size,), _dtype(params))
        pairs.append(ritz(lanczos(product, start, steps)))
    longest = max(len(values) for values, _ in pairs)
    padded = [[np.pad(part, (0, longest - len(part))) for part in p] for p in pairs]
    values, weights = np.stack(padded, axis=1)
    return Density(values, weights)


def ritz(tridiagonal: Tridiagonal) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values ascending, and the weight of each at the start vector, f[k] each."""
    t = np.diag(tridiagonal.diagonal)
    t += np.diag(tridiagonal.off, 1) + np.diag(tridiagonal.off, -1)
    values, vectors = np.linalg.eigh(t)
    return values, vectors[0] ** 2


def _dtype(params: Tree) -> Any:
    return jnp.result_type(*trees.floating(params)[0])
