"""Vector-space operations on pytrees of parameters.

Only floating leaves are vectors here. Integer and boolean leaves (counters, masks)
ride along: they add nothing to a norm and no operation moves them. Squares are summed
in float32 or wider, whatever the leaves' own precision.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Scalar = jax.typing.ArrayLike


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is real and differentiable; complex leaves are refused."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            f"Received a leaf of dtype {dtype}; the l2 ball of sharpness-aware "
            "minimisation is defined for real parameters. Hold the real and the "
            "imaginary part as two leaves."
        )
    return jnp.issubdtype(dtype, jnp.floating)


def widen(leaf: jax.Array) -> jax.Array:
    """The leaf in float32, or in float64 if it is that already."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def floating(tree: Tree) -> tuple[list[jax.Array], Callable[..., Tree]]:
    """Takes the floating leaves out of a tree.

    Returns: the list of floating leaves, and `rebuild(leaves, fill=None)`, which puts
    such a list back among the other leaves (`fill=0`: among zeros like them).
    """
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if is_floating(leaf)]

    def rebuild(new: list[jax.Array], fill: int | None = None) -> Tree:
        full = leaves if fill is None else [jnp.full_like(x, fill) for x in leaves]
        full = list(full)
        for place, leaf in zip(places, new, strict=True):
            full[place] = leaf
        return jax.tree.unflatten(structure, full)

    return [leaves[i] for i in places], rebuild


def dot(a: Tree, b: Tree) -> jax.Array:
    """Inner product over all floating leaves, <a, b>, in float32 or wider."""
    # Sums of products: `jnp.vdot` refuses arrays sharded over Explicit axes.
    products = [
        jnp.sum(widen(x) * widen(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if is_floating(x)
    ]
    return sum(products, start=jnp.zeros((), jnp.float32))


def norm(tree: Tree) -> jax.Array:
    """Euclidean norm over all floating leaves, f[], in float32 or wider.

    Right for entries of any size: they are divided by a power of two first, so that
    squares neither over- nor underflow, and nothing is rounded by that.
    """
    power = power_of_two(tree)
    small = scale(tree, 1 / power)
    return power * jnp.sqrt(dot(small, small))


def power_of_two(tree: Tree) -> jax.Array:
    """The power of two above the largest entry, f[]; 1 if that is 0 or not finite.

    Exponents end at +-126, so that 1 / power is a normal number, too.
    """
    entries = [
        jnp.max(jnp.abs(widen(leaf)), initial=0)
        for leaf in jax.tree.leaves(tree)
        if is_floating(leaf)
    ]
    largest = functools.reduce(jnp.maximum, entries, jnp.zeros((), jnp.float32))
    usual = jnp.isfinite(largest) & (largest > 0)
    _, exponent = jnp.frexp(jnp.where(usual, largest, 0.5))
    return jnp.ldexp(jnp.ones_like(largest), jnp.clip(exponent, -126, 126))


def scale(tree: Tree, factor: Scalar) -> Tree:
    """factor * tree on floating leaves, in float32 or wider; other leaves become 0."""

    def one(leaf):
        if not is_floating(leaf):
            return jnp.zeros_like(leaf)
        wide = widen(leaf)
        return wide * jnp.asarray(factor, wide.dtype)

    return jax.tree.map(one, tree)


def reciprocal(length: jax.Array) -> jax.Array:
    """1 / length, 0 at length 0, and NaN at a length that is not finite.

    So every normalisation here is safe at zero, and no gradient that is infinite or NaN
    passes for zero.
    """
    positive = length > 0
    inverse = jnp.where(positive, 1 / jnp.where(positive, length, 1), 0)
    return jnp.where(jnp.isfinite(length), inverse, jnp.nan)


def unit(tree: Tree) -> Tree:
    """tree / |tree|, and zero where the tree is zero.

    A tree with an entry that is not finite becomes NaN: it must not pass for zero.
    """
    power = power_of_two(tree)
    small = scale(tree, 1 / power)
    inverse = reciprocal(jnp.sqrt(dot(small, small)))
    # Not `small` again, which XLA would then keep in memory: the same product, bit for
    # bit, from the tree itself, in two factors of which none over- or underflows.
    _, exponent = jnp.frexp(power)
    half = jnp.ldexp(jnp.ones_like(power), exponent // 2)
    return scale(scale(tree, 1 / half), inverse / (power / half))


def add(a: Tree, b: Tree) -> Tree:
    """a + b on floating leaves, in the dtype of `a`; other leaves stay those of `a`."""

    def one(x, y):
        if not is_floating(x):
            return x
        return (widen(x) + y).astype(jnp.result_type(x))

    return jax.tree.map(one, a, b)


def add_scaled(a: Tree, factor: Scalar, b: Tree) -> Tree:
    """a + factor * b on floating leaves, in the dtype of `a`."""
    return add(a, scale(b, factor))


def least_of_largest(tree: Tree, part: Scalar, *, each: bool = False) -> Tree:
    """The least of the largest entries that make up a part of all, f[].

    It is found bit by bit, since bits of floats >= 0 are ordered as they are: a pass of
    comparisons a bit, where sorting takes many times longer, and one device.

    Args:
      tree: of entries >= 0. part: in (0, 1]; of one entry at least.
      each: that of every leaf by itself, in a tree like `tree`.
    """
    leaves = [widen(leaf) for leaf in jax.tree.leaves(tree)]
    dtype = jnp.result_type(*leaves)
    width = jnp.finfo(dtype).bits
    whole = jnp.dtype(f"int{width}")
    bits = [jax.lax.bitcast_convert_type(x.astype(dtype), whole) for x in leaves]
    several = [[x] for x in bits] if each else [bits]

    def search(group: list[jax.Array], i: jax.Array, least: jax.Array) -> jax.Array:
        count = jnp.maximum(jnp.round(part * sum(x.size for x in group)), 1)
        trial = least | (jnp.ones((), whole) << (width - 2 - i).astype(whole))
        above = sum(jnp.sum(x >= trial) for x in group)
        return jnp.where(above >= count, trial, least)

    def try_bit(i: jax.Array, least: list[jax.Array]) -> list[jax.Array]:
        return [search(group, i, x) for group, x in zip(several, least, strict=True)]

    # Zero, known to vary over mapped devices where the entries do.
    start = jnp.zeros((), whole)
    zeros = [sum((jnp.min(x, initial=0) & 0 for x in g), start) for g in several]
    found = [
        jax.lax.bitcast_convert_type(least, dtype)
        for least in jax.lax.fori_loop(0, width - 1, try_bit, zeros)
    ]
    return jax.tree.unflatten(jax.tree.structure(tree), found) if each else found[0]


def project(tree: Tree, radius: Scalar) -> Tree:
    """The nearest point of the l2 ball of this radius around the origin."""
    outside = norm(tree) > radius
    on_sphere = scale(unit(tree), radius)
    return jax.tree.map(
        lambda x, y: jnp.where(outside, y, widen(x)) if is_floating(x) else y,
        tree,
        on_sphere,
    )


def zeros_like(tree: Tree) -> Tree:
    """A tree of zeros of the same shapes and dtypes."""
    return jax.tree.map(jnp.zeros_like, tree)


def random_like(
    key: jax.Array, tree: Tree, draw: Callable[..., jax.Array] = jax.random.normal
) -> Tree:
    """Independent standard normal entries on floating leaves, zeros elsewhere.

    `draw(key, shape, dtype)` may have another distribution. It is called once for the
    whole tree: a draw per leaf compiles as many programs as leaves.
    """
    leaves, rebuild = floating(tree)
    sizes = [jnp.size(leaf) for leaf in leaves]
    dtype = jnp.result_type(jnp.float32, *leaves) if leaves else jnp.float32
    flat = draw(key, (sum(sizes),), dtype)
    noise, start = [], 0
    for leaf, size in zip(leaves, sizes, strict=True):
        entries = flat[start : start + size].reshape(jnp.shape(leaf))
        noise.append(entries.astype(jnp.result_type(leaf)))
        start += size
    return rebuild(noise, fill=0)


def vjp(function: Callable, params: Tree) -> tuple[Any, Callable[[Any], Tree], Any]:
    """Reverse-mode derivative of `function(params) -> (outputs, aux)`.

    Returns: outputs, the pull-back from cotangents of the outputs to a tree like
    `params` (zeros at integer leaves), and aux.
    """
    leaves, rebuild = floating(params)
    outputs, pull, aux = jax.vjp(lambda x: function(rebuild(x)), leaves, has_aux=True)
    return outputs, lambda cotangent: rebuild(pull(cotangent)[0], fill=0), aux
