"""Ascent: from a gradient to the perturbation that (locally) raises the loss most.

A perturbation rule is a function (gradient, params, rho) -> perturbation on pytrees of
floating leaves. `perturbation` applies a rule to the leaves that may move, `ascend`
takes one or several steps.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.core import trees

Tree = Any
Rule = Callable[[Tree, Tree, trees.Scalar], Tree]


def normalized(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
    """rho g / |g|, the maximiser of the linearised loss on the l2 ball (Eq. 5, 20).

    The norm is over all leaves together; a zero gradient gives a zero perturbation.
    """
    del params
    return trees.scale(trees.unit(gradient), rho)


def unnormalized(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
    """rho g, the gradient step of the paper's theory (Eq. 18); rho is a step size."""
    del params
    return trees.scale(gradient, rho)


def plain(normalize: bool) -> Rule:
    """`normalized` or `unnormalized`, by the flag that the variants have for it."""
    return normalized if normalize else unnormalized


def adaptive(eta: trees.Scalar = 0.01) -> Rule:
    """rho T^2 g / |T g| with T = |w| + eta element by element (ASAM).

    Kwon et al. 2021, Eq. 8: the maximiser on {|T^-1 delta| <= rho}, which does not
    change when weights are rescaled (at eta = 0).
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        scales = jax.tree.map(lambda w: jnp.abs(trees.widen(w)) + eta, params)
        # Of length 1 first: squares of weights times a gradient may overflow.
        scaled = jax.tree.map(jnp.multiply, scales, trees.unit(gradient))
        return jax.tree.map(jnp.multiply, scales, normalized(scaled, params, rho))

    return rule


def layerwise(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
    """rho |w_l| g_l / |g_l| for every leaf l: the layer-wise scaling of AWP.

    Wu et al. 2020, Eq. 9-10. A leaf of zeros is not perturbed.
    """
    return jax.tree.map(
        lambda g, w: trees.scale(trees.unit(g), rho * trees.norm(w)), gradient, params
    )


def random(key: jax.Array, *, normalize: bool = True) -> Rule:
    """A random direction of length rho, or independent N(0, rho^2) entries.

    Average-case instead of worst-case noise: the control for SAM's direction.
    """

    def rule(gradient: Tree, params: Tree, rho: trees.Scalar) -> Tree:
        del gradient
        noise = trees.random_like(key, params)
        return trees.scale(trees.unit(noise) if normalize else noise, rho)

    return rule


def perturbation(
    rule: Rule, gradient: Tree, params: Tree, rho: trees.Scalar, mask: Tree = None
) -> Tree:
    """Applies a rule to the floating leaves that the mask allows; zeros elsewhere.

    Leaves outside the mask are taken out before the rule sees them, so that they count
    in no norm.

    Args:
      mask: tree of Python bools shaped like params, or None for all leaves.
    """
    leaves, structure = jax.tree.flatten(params)
    slopes = check_gradient(gradient, params)
    allowed = [True] * len(leaves) if mask is None else mask_leaves(mask, structure)
    active = [a and trees.is_floating(w) for a, w in zip(allowed, leaves, strict=True)]

    def pick(values):
        return [v for v, a in zip(values, active, strict=True) if a]

    moved = iter(rule(pick(slopes), pick(leaves), rho))
    delta = [
        next(moved) if a else jnp.zeros_like(w)
        for a, w in zip(active, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, delta)


def ascend(
    gradient_at: Callable[[Tree], Tree],
    params: Tree,
    rho: trees.Scalar,
    *,
    rule: Rule = normalized,
    first: Tree = None,
    steps: int | np.integer = 1,
    step_size: trees.Scalar | None = None,
    mask: Tree = None,
) -> Tree:
    """Perturbation after one or several ascent steps.

    delta_0 = 0,  delta_{k+1} = P(delta_k + rule(grad L(w + delta_k), w, step_size)),
    with P the projection on the l2 ball of radius rho. A single step of the default
    size needs no projection when normalised, and gets none when unnormalised: Eq. 18
    has none.

    Args:
      gradient_at: params -> gradient.
      first: the gradient at `params` if it is known already.
      steps: number of ascent steps, >= 1.
      step_size: length of one step, default rho; giving one switches the projection on.
    """
    size = rho if step_size is None else step_size
    projected = steps > 1 or step_size is not None
    gradient = gradient_at(params) if first is None else first
    delta = perturbation(rule, gradient, params, size, mask)
    for _ in range(steps - 1):
        delta = trees.project(delta, rho)
        gradient = gradient_at(trees.add(params, delta))
        step = perturbation(rule, gradient, params, size, mask)
        delta = jax.tree.map(jnp.add, delta, step)
    return trees.project(delta, rho) if projected else delta


def check_radius(name: str, rho: Any) -> None:
    """Raises ValueError unless rho is a finite real number >= 0, or a traced one."""
    is_number = isinstance(rho, numbers.Real | np.ndarray | jax.Array)
    is_scalar = is_number and np.shape(rho) == ()
    traced = isinstance(rho, jax.core.Tracer)
    if is_scalar and (traced or 0 <= float(rho) < math.inf):
        return
    raise ValueError(
        f"{name} received rho={rho!r}; the ascent radius must be a finite number >= 0. "
        "For the base optimiser alone use rho=0."
    )


def check_gradient(gradient: Tree, params: Tree) -> list[jax.Array]:
    """The gradient's leaves; ValueError unless they are those of a tree like params."""
    places, structure = jax.tree_util.tree_flatten_with_path(params)
    slopes, received = jax.tree.flatten(gradient)
    if received != structure:
        raise ValueError(
            f"Received a gradient of structure {received} for parameters of structure "
            f"{structure}; grad_fn must return a tree like params.{_hint(gradient)}"
        )
    for (path, leaf), slope in zip(places, slopes, strict=True):
        if jnp.shape(slope) != jnp.shape(leaf):
            raise ValueError(
                f"Received a gradient of shape {jnp.shape(slope)} for the parameter "
                f"{jax.tree_util.keystr(path)} of shape {jnp.shape(leaf)}; grad_fn "
                "must return a tree like params."
            )
    return slopes


def _hint(gradient: Tree) -> str:
    """What a pair is, in all likelihood, and how to take the gradient out of it."""
    if not (isinstance(gradient, tuple) and len(gradient) == 2):
        return ""
    return (
        " jax.grad(f, has_aux=True) returns (gradient, aux): pass grad_fn=lambda p, b: "
        "f_grad(p, b)[0]; jax.value_and_grad(f) returns (value, gradient): pass "
        "[1] of it. sam_jax.value_and_grad hands value and aux on."
    )


def mask_leaves(mask: Tree, structure: Any) -> list[bool]:
    leaves, received = jax.tree.flatten(mask)
    if received != structure:
        raise ValueError(
            f"Received a mask of structure {received} for parameters of structure "
            f"{structure}; give one Python bool for every parameter leaf."
        )
    if not all(isinstance(leaf, bool) for leaf in leaves):
        raise ValueError(
            f"Received mask leaves {leaves}; they must be Python bools, since the mask "
            "decides what is compiled."
        )
    return leaves
