"""Ascent that leans to the Hessian's top eigenvector."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.groups import Count
from sam_jax.ops import layouts, loops
from sam_jax.transforms.factory import DefaultCount, make_factory
from sam_jax.transforms.point import Point

Tree = Any
TEN = DefaultCount(10)


class Eigenvector(NamedTuple):
    """count: steps, i32[]. vector: the last iterate, of length 1 after one step."""

    count: jax.Array
    vector: Tree


def init_eigenvector(params: Tree, **_: Any) -> Eigenvector:
    """The state of `eigen_sam`: a fixed random vector before the first iteration."""
    noise = trees.random_like(jax.random.key(0), params)
    vector = trees.add(
        trees.zeros_like(params), noise
    )  # split over devices as they are
    return Eigenvector(jnp.zeros((), jnp.int32), vector)


def eigen_sam_gradient(
    point: Point, *, strength: trees.Scalar = 0.2, refresh: Count = TEN
) -> Gradient:
    """SAM along g / |g| + strength * sign(<v, g>) * (v's part orthogonal to g).

    Eigen-SAM (Luo et al. 2024, NeurIPS, arXiv:2501.12666): v is the top eigenvector of
    the batch's Hessian, by one power iteration in every `refresh`-th step, from the
    iterate of the one before; the authors' code takes five in every hundredth. Neither
    the part orthogonal to g nor the sum is normalised, as there: the perturbation is up
    to sqrt(1 + strength^2) rho long. Two gradients a step, and a Hessian-vector product
    (some three more) in every `refresh`-th; on CPU with convolutions in every one,
    since compiled branches are slow there.

    Args:
      rho, axis_name: as in `sam`.
      strength: the paper's alpha, >= 0; 0 is SAM, .2 the default of the authors' code.
      refresh: steps between iterations, >= 1.
    """
    here = point.here()

    def iterate(vector: Tree) -> Tree:
        new = _hessian_vector_product(point, trees.scale(trees.unit(vector), 1))
        new = trees.add(trees.zeros_like(vector), trees.unit(new))
        return jax.tree.map(layouts.like, new, vector)

    count, vector = point.state
    due = count % refresh == 0
    if loops.are_slow_with(iterate, vector):
        new = iterate(vector)
        vector = jax.tree.map(lambda a, b: jnp.where(due, a, b), new, vector)
    else:
        vector = jax.lax.cond(due, iterate, lambda v: v, vector)
    unit = trees.unit(point.masked(here.gradient))
    cosine = trees.dot(vector, unit)
    orthogonal = trees.add_scaled(trees.scale(vector, 1), -cosine, unit)
    lean = trees.scale(orthogonal, strength * jnp.sign(cosine))
    direction = jax.tree.map(jnp.add, unit, lean)
    state = Eigenvector(optax.safe_increment(count), vector)
    return point.climb(here, direction, ascent.unnormalized)._replace(state=state)


def _hessian_vector_product(point: Point, vector: Tree) -> Tree:
    """H v, of the mean loss at w, by forward over reverse."""
    leaves, rebuild = trees.floating(point.params)
    tangents, _ = trees.floating(vector)
    tangents = [v.astype(w.dtype) for v, w in zip(tangents, leaves, strict=True)]

    def slope(w: list[jax.Array]) -> list[jax.Array]:
        plain = point._replace(params=rebuild(w), gradient=None)
        return trees.floating(plain.here().gradient)[0]

    _, product = jax.jvp(slope, (leaves,), (tangents,))
    return rebuild(product, fill=0)


eigen_sam = make_factory("eigen_sam", eigen_sam_gradient, init_eigenvector)
