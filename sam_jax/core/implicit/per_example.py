"""Tools from the gradients of single examples, or small groups, that nobody holds."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import groups, trees
from sam_jax.core.implicit.clean_pass import Clean, clean_pass
from sam_jax.core.implicit.network import Network, trace
from sam_jax.core.implicit.weighted import weighted_sum
from sam_jax.core.objective import Objective
from sam_jax.ops import layouts

Tree = Any


def clipped_gradient(
    objective: Objective,
    params: Tree,
    batch: Tree,
    clip: trees.Scalar,
    m: groups.Count = 1,
    *,
    chunk: groups.Count | None = None,
    has_aux: bool = False,
) -> Any:
    """Mean over groups J of m examples of g_J min(1, clip / |g_J|), without the g_J.

    The clipping of DP-SGD (Abadi et al. 2016, arXiv:1607.00133, Alg. 1) and of robust
    training, at little more than the price of a plain gradient: the norms come from one
    pass (see `sam_jax.per_example_norms`), the weighted sum from its factors (see
    `weighted`).

    One example moves the sum by clip at most, so Gaussian noise of standard deviation
    noise_multiplier * clip * m / B belongs on this mean: `optax.add_noise(std**2, 0,
    key)`, or a mechanism of jax_privacy's on B / m times the mean. Norms are rounded
    like any sum of products. Leave the penalty out of an objective that is to be
    private: g_J has it in it.

    Args:
      objective, params, batch: as in `sam_jax.implicit_gradient`.
      clip: largest norm of a group's gradient, > 0; may be traced.
      m: examples of a group, consecutive in the batch.
      chunk: groups worked on at once; less memory, more time. None for all.
      has_aux: also return what the pass knows, losses f[B] and norms f[B / m].

    Returns: a tree like params; with `has_aux` ((losses, norms), tree).

    Raises: ValueError as `sam_jax.implicit_gradient`, and for a clip that is no
      positive number.
    """
    _check_clip(clip)
    network, pieces = _trace(objective, params, batch, m)

    def sums(pieces: Tree) -> tuple[Tree, Tree]:
        clean = _clean(network, params, pieces)
        weights = jnp.minimum(1, jnp.asarray(clip, clean.norm.dtype) / clean.norm)
        # A norm of 0 has nothing to clip; one that is not finite must not pass for 0.
        weights = jnp.where(clean.norm > 0, weights, 1)
        weights = jnp.where(jnp.isfinite(clean.norm), weights, jnp.nan)
        total = weighted_sum(network, params, pieces, clean, weights)
        return total, (groups.join(clean.losses), clean.norm)

    mean, kept = groups.average_sums(sums, pieces, params, chunk)
    return (kept, mean) if has_aux else mean


class NoiseScale(NamedTuple):
    """Gradient noise against gradient, leaf by leaf.

    noise: tr Sigma, the variance of a single example's gradient, summed over the
    entries of a leaf; a tree like params of f[]. signal: |G|^2, the squared norm of the
    gradient of all data, likewise. Both are unbiased, and may come out negative: take
    means of each over several batches (it is a pytree) before their ratio.
    """

    noise: Tree
    signal: Tree

    @property
    def scale(self) -> jax.Array:
        """tr Sigma / |G|^2 over all leaves, f[], in examples: B_simple."""
        return _sum(self.noise) / _sum(self.signal)

    def by_layer(self) -> dict[str, jax.Array]:
        """The same for every layer, leaves that differ in the last part of the path."""
        noise = jax.tree_util.tree_leaves_with_path(self.noise)
        signal = jax.tree.leaves(self.signal)
        sums: dict[str, tuple[Any, Any]] = {}
        for (path, tr), square in zip(noise, signal, strict=True):
            name = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
            earlier = sums.get(name, (0, 0))
            sums[name] = (earlier[0] + tr, earlier[1] + square)
        return {name: tr / square for name, (tr, square) in sums.items()}


def gradient_noise_scale(
    objective: Objective, params: Tree, batch: Tree, m: groups.Count = 1
) -> NoiseScale:
    """How many examples a gradient takes until its noise is as large as itself.

    McCandlish et al. 2018 (arXiv:1812.06162), Eq. 2.8 and App. A.1, from the gradients
    g_J of groups of m and their mean g of all B examples, in one pass:

        |G|^2    = (B |g|^2 - m mean |g_J|^2) / (B - m),
        tr Sigma = (mean |g_J|^2 - |g|^2) / (1 / m - 1 / B).

    Batches far below `scale` are mostly noise, batches far above it waste examples.

    Args:
      objective, params, batch: as in `sam_jax.implicit_gradient`. A penalty is part of
        every g_J, and so of |G|^2, and adds no noise.
      m: examples of a group, B / 2 at most; 1 wastes nothing.

    Raises: ValueError as `sam_jax.implicit_gradient`, and for a single group.
    """
    network, pieces = _trace(objective, params, batch, m)
    number = len(jax.tree.leaves(pieces)[0])
    if number < 2:
        raise ValueError(
            f"gradient_noise_scale received m={m} for a batch of {number * m} "
            "examples; it compares groups: give two groups at least."
        )
    clean = _clean(network, params, pieces)
    weights = jnp.full_like(clean.norm, 1 / number)
    mean = weighted_sum(network, params, pieces, clean, weights)
    squares = jnp.mean(clean.unit[:, None] ** 2 * clean.squares, 0)
    structure = jax.tree.structure(params)
    small = jax.tree.unflatten(structure, list(squares))
    large = jax.tree.map(lambda g: trees.dot(g, g), mean)
    total = number * m
    signal = jax.tree.map(lambda s, g: (total * g - m * s) / (total - m), small, large)
    noise = jax.tree.map(lambda s, g: (s - g) / (1 / m - 1 / total), small, large)
    return NoiseScale(noise, signal)


def _trace(
    objective: Objective, params: Tree, batch: Tree, m: groups.Count
) -> tuple[Network, Tree]:
    """The network traced on a group, and all groups' batches [groups, m, ...]."""
    pieces = groups.split(batch, groups.form(batch, m).number)
    return trace(objective, params, layouts.types_of_one(pieces)), pieces


def _clean(network: Network, params: Tree, pieces: Tree) -> Clean:
    """Pass 1 of all groups."""
    return jax.vmap(functools.partial(clean_pass, network, params))(pieces)


def _check_clip(clip: Any) -> None:
    if isinstance(clip, jax.core.Tracer):
        return
    if not (jnp.ndim(clip) == 0 and float(clip) > 0):
        raise ValueError(
            f"clipped_gradient received clip={clip!r}; it must be a number > 0, the "
            "largest norm that a group's gradient keeps."
        )


def _sum(tree: Tree) -> jax.Array:
    return sum(jax.tree.leaves(tree), start=jnp.zeros(()))
