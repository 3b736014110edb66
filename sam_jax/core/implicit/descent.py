"""The descent objectives, and the sum of their gradients over groups.

f are the outputs of the network and u = d mean loss / d outputs, as in Table 1. Each
objective below is a function of w whose gradient at w = w0 is the one that is wanted.
The perturbation c g is a constant in it. SAM takes both factors of the gradient J^T u
at w + c g, its direction alone takes J there, and its derivative alone takes u there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import groups, trees
from sam_jax.core.implicit.clean_pass import Clean, clean_pass
from sam_jax.core.implicit.network import Network
from sam_jax.core.implicit.perturbed_pass import perturbed_pass

Tree = Any
# (network, w, w0, group's batch, pass 1, c) -> f[], as for `perturbed_pass`.
Descent = Callable[[Network, Tree, Tree, Tree, Clean, jax.Array], jax.Array]


def whole(
    network: Network, w: Tree, w0: Tree, group: Tree, clean: Clean, c: jax.Array
) -> jax.Array:
    """L(w + c g), the mean loss plus the penalty: SAM's own objective."""
    outputs, penalty = perturbed_pass(network, w, w0, group, clean, c)
    return network.mean_loss(outputs, group)[0] + penalty


def direction(
    network: Network, w: Tree, w0: Tree, group: Tree, clean: Clean, c: jax.Array
) -> jax.Array:
    """<u(w0), f(w + c g)> + penalty(w + c g), with gradient J(w + c g)^T u(w0)."""
    outputs, penalty = perturbed_pass(network, w, w0, group, clean, c)
    return trees.dot(clean.cotangent, outputs) + penalty


def derivative(
    network: Network, w: Tree, w0: Tree, group: Tree, clean: Clean, c: jax.Array
) -> jax.Array:
    """<u(w0 + c g), f(w)> + penalty(w), with gradient J(w)^T u(w0 + c g)."""
    outputs, _ = perturbed_pass(network, w0, w0, group, clean, c)
    slope = jax.grad(network.mean_loss, has_aux=True)(outputs, group)[0]
    here, _ = network.objective.forward(w, group)
    value = trees.dot(slope, here)
    penalty = network.objective.penalty
    return value if penalty is None else value + penalty(w)


OBJECTIVES: Mapping[str | None, Descent] = {
    None: whole,
    "direction": direction,
    "derivative": derivative,
}


def sums(
    network: Network,
    params: Tree,
    pieces: Tree,
    *,
    rho: trees.Scalar,
    normalize: bool,
    swap: str | None,
) -> tuple[Tree, Tree]:
    """Both passes over some groups.

    Args:
      pieces: the groups' batches, [groups, m, ...].

    Returns: sums over groups of (gradient, aux, length of the perturbation), and
      (losses, outputs) of all examples.
    """
    clean = jax.vmap(lambda group: clean_pass(network, params, group))(pieces)
    lengths = clean.norm
    scale = trees.reciprocal(lengths) if normalize else jnp.ones_like(lengths)
    scales = jnp.asarray(rho, lengths.dtype) * scale
    leaves, rebuild = trees.floating(params)

    def descend(leaves: list) -> jax.Array:
        def one(group, clean, c):
            w = rebuild(leaves)
            return OBJECTIVES[swap](network, w, params, group, clean, c)

        return jnp.sum(jax.vmap(one)(pieces, clean, scales))

    gradient = rebuild(jax.grad(descend)(leaves), fill=0)
    aux = jax.tree.map(lambda x: jnp.sum(x, 0), clean.aux)
    total = (gradient, aux, jnp.sum(scales * lengths))
    return total, (groups.join(clean.losses), groups.join(clean.outputs))
