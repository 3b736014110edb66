"""Pass 1 of a group: the network at w, and the factored gradient there.

Zeros are added to the output of every site (a probe) and to every materialised leaf (a
copy), and the loss is differentiated with respect to these zeros, in one pull-back. It
gives the gradient d of every site's output, and the plain gradients of the copies.

What is pulled back is u / unit, with the unit a power of two about as large as u: all
of pass 1 is a gradient divided by it, whose squares neither over- nor underflow.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.implicit import factored
from sam_jax.core.implicit.factored import FactoredGradient, Passed
from sam_jax.core.implicit.loops import Entry
from sam_jax.core.implicit.network import Network, move
from sam_jax.core.implicit.plan import Plan
from sam_jax.ops import layouts

Tree = Any


class Clean(NamedTuple):
    """Pass 1 of a group, at w.

      outputs, aux: of predict. losses: f[m], without the penalty.
      cotangent: u, the gradient of the mean loss with respect to the outputs.
      gradient: g / unit, of the mean loss plus the penalty. unit: f[], a power of two.
      squares: |g / unit|^2 of every leaf, f[leaves].
    norm: |g|.
    """

    outputs: Tree
    aux: Tree
    losses: jax.Array
    cotangent: Tree
    gradient: FactoredGradient
    unit: jax.Array
    squares: jax.Array
    norm: jax.Array


def clean_pass(network: Network, params: Tree, group: Tree) -> Clean:
    """Evaluates and differentiates the objective of one group at w = params."""

    leaves = network.plan.leaves

    def at_site(i, use, x, v, entries):
        y = use.site.evaluate(x, v)
        return _tap(y, entries[use.key].value), Passed.at(leaves[i], use, x, v, y)

    def forward(shifts):
        copies, probes = shifts
        entries = {
            use.key: Entry(probes[use.key], use.loops)
            for leaf in leaves
            for use in leaf.uses
        }
        moved = move(params, copies)
        (outputs, aux), passed = network.run(moved, group, at_site, entries)
        return outputs, (aux, passed)

    shifts = _zero_shifts(network.plan, params)
    outputs, pull, (aux, passed) = jax.vjp(forward, shifts, has_aux=True)
    loss = jax.value_and_grad(network.mean_loss, has_aux=True)
    (_, losses), cotangent = loss(outputs, group)
    # Not smaller, since the penalty's part of the gradient is divided by it, too.
    unit = jnp.maximum(trees.power_of_two(cotangent), 2.0**-40)
    small = trees.add_scaled(trees.zeros_like(cotangent), 1 / unit, cotangent)
    ((copies, signals),) = pull(small)
    gradient = factored.of_loss(network.plan, copies, signals, passed)
    gradient = factored.with_penalty(network, params, gradient, passed, unit)
    squares = jnp.stack(factored.squares(network, params, gradient, passed, unit))
    norm = unit * jnp.sqrt(jnp.sum(squares))
    return Clean(outputs, aux, losses, cotangent, gradient, unit, squares, norm)


@jax.custom_jvp
def _tap(y: jax.Array, probe: jax.Array) -> jax.Array:
    """y + probe for a probe of zeros, which are never read."""
    return y


@_tap.defjvp
def _tap_tangent(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return _tap(*primals), tangents[0] + tangents[1]


def _zero_shifts(plan: Plan, params: Tree) -> tuple[dict, dict]:
    """What pass 1 is differentiated by: copies of leaves, and probes at outputs, which
    loops stack.
    """
    weights = jax.tree.leaves(params)
    copies = {i: jnp.zeros_like(weights[i]) for i in plan.indices("materialised")}
    probes = {
        use.key: layouts.zeros(use.site.y, [a.length for a in use.around])
        for leaf in plan.leaves
        for use in leaf.uses
    }
    return copies, probes
