"""Sums of the gradients of groups, each with a weight of its own, from pass 1 alone.

A weight s_J that depends on |g_J| needs all of pass 1, which leaves g_J in factored
form. Their weighted sum is linear in each factor. For a leaf seen as V at its sites,

    gram leaf:      sum over J of s_J X_J^T D_J   = grad by V of <s_J D_J, X_J V>,
    explicit leaf:  sum over J of s_J G_J         = grad by V of <sum s_J G_J, M(V)>,

one ordinary matrix product over all groups, and the gradient by V goes back through the
views to the leaf. A materialised leaf has its g_J at hand. The network is walked once
more for the views alone: nothing that it computes is read.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.implicit.clean_pass import Clean
from sam_jax.core.implicit.loops import Entry
from sam_jax.core.implicit.network import Network
from sam_jax.ops import layouts

Tree = Any


def weighted_sum(
    network: Network, params: Tree, pieces: Tree, clean: Clean, weights: jax.Array
) -> Tree:
    """sum over groups J of weights_J g_J, a tree like params, in float32 or wider.

    Args:
      pieces: the groups' batches, [groups, m, ...]. clean: pass 1 of all of them.
      weights: f[groups].
    """
    sizes = weights * clean.unit  # of g_J over what `clean.gradient` holds of it
    leaves, rebuild = trees.floating(params)

    def read(leaves: list) -> jax.Array:
        return _inner_products(network, rebuild(leaves), pieces, clean, sizes)

    found = jax.tree.leaves(rebuild(jax.grad(read)(leaves), fill=0))
    for i, copies in clean.gradient.copies.items():
        found[i] = _scaled_sum(sizes, copies)
    penalty = network.objective.penalty_gradient(params)
    if penalty is not None:
        slopes = jax.tree.leaves(penalty)
        for i in network.plan.indices("gram"):
            found[i] += jnp.sum(weights) * trees.widen(slopes[i])
    return jax.tree.unflatten(jax.tree.structure(params), found)


def _inner_products(
    network: Network, params: Tree, pieces: Tree, clean: Clean, sizes: jax.Array
) -> jax.Array:
    """The sum of what the table above takes the gradient of, f[]."""
    plan, gradient = network.plan, clean.gradient
    matrices = {i: _scaled_sum(sizes, g) for i, g in gradient.matrices.items()}
    share = 1 / len(sizes)  # every group adds the same

    def one(group: Tree, inputs: dict, signals: dict, size: jax.Array) -> jax.Array:
        def at_site(i, use, x, v, entries):
            site, leaf, known = use.site, plan.leaves[i], entries[use.key].value
            value = jnp.zeros(())
            if leaf.mode == "gram":
                x, d = known
                value = trees.dot(size * trees.widen(d), site.evaluate(x, v))
            elif use is leaf.uses[0]:
                value = share / use.visits * trees.dot(known, site.matrix(v))
            return jnp.zeros(site.y.shape, site.y.dtype), value

        entries = {
            use.key: Entry((inputs[use.key], signals[use.key]), use.loops)
            if use.key in inputs
            else Entry(matrices[i], use.slicing)
            for i, leaf in enumerate(plan.leaves)
            for use in leaf.uses
        }
        _, values = network.run(params, group, at_site, entries)
        return sum(map(jnp.sum, values.values()), start=jnp.zeros(()))

    each = jax.vmap(one)(pieces, gradient.inputs, gradient.signals, sizes)
    return jnp.sum(each)


def _scaled_sum(sizes: jax.Array, parts: jax.Array) -> jax.Array:
    """sum over J of sizes_J parts_J."""
    wide = trees.widen(parts)
    sizes = sizes.astype(wide.dtype)
    return layouts.product(sizes, wide, (((0,), (0,)), ((), ())))
