"""Pass 2 of a group: its network and its penalty at w + c g, where c g is constant.

w is what the descent gradient is taken with respect to, and w0, equal to it, the value
at which pass 1 took g = G + lambda w0, with G the gradient of the loss and lambda the
factor of the leaf's L2 term, 0 without one. As in every form of SAM, c g is held
constant. A materialised leaf is moved as it stands, w + c g, in network and penalty. An
implicit leaf is not, since w + c g would be one copy of it a group; instead:

The network. The weight V is w seen through views, and V0 is w0. In the notation of
`sites`, with X' the input of the layer in the perturbed network,

    explicit leaf:  y' = X' (M + c g),                       g a matrix like M;
    gram leaf:      y' = X' (V + c (X^T D + lambda V0))
                       = X' V + c lambda X' V0 + c (X' X^T) D.

X' V0 is X' V in value, and does not depend on w: y' is (1 + c lambda) X' V plus the
last part in value, with the derivative of X' V alone with respect to V.

The penalty. The part of it that reads the leaf is, but for a constant,

    (lambda / 2) |w + c g|^2
        = (lambda / 2) |w|^2  +  c lambda <g, w>  +  (lambda / 2) |c g|^2,
           the penalty at w       cross term           constant in w

and only its gradient is wanted. So the penalty is evaluated where the implicit leaves
are not moved, the cross terms are added, and what is constant in w is left out. Since
the entries of V are those of w, <g, w> = <g, M> for an explicit leaf. A gram leaf has G
as factors and w0 itself:

    c lambda <g, w> = c lambda <G, w>  +  c lambda^2 <w0, w>,
    <G, w> = <X^T D, V> = <D, X V> = <d, y>,   y the output of x and V,

summed over the sites of the leaf, if a layer is called more than once. lambda is
squared where the penalty's own part of g meets the penalty again.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.implicit.clean_pass import Clean
from sam_jax.core.implicit.factored import FactoredGradient, factors, gram_change
from sam_jax.core.implicit.loops import Entries, Entry
from sam_jax.core.implicit.network import Network, move
from sam_jax.core.implicit.penalty import L2
from sam_jax.core.implicit.plan import Leaf
from sam_jax.core.implicit.sites import Site
from sam_jax.core.implicit.uses import Use

Tree = Any
# The output y' of a site, and its cross terms: none, or one.
Perturbed = tuple[jax.Array, list[jax.Array]]


def perturbed_pass(
    network: Network, w: Tree, w0: Tree, group: Tree, clean: Clean, c: jax.Array
) -> tuple[Tree, jax.Array]:
    """The network at w + c g, and its penalty up to a constant.

    Args:
      w: what may be differentiated by. w0: the same in value, a constant.
      clean: of pass 1, at w0. c: length of the perturbation over that of g, f[].

    Returns: predict's outputs, and penalty(w + c g) less what does not depend on w.
    """
    leaves, gradient = network.plan.leaves, clean.gradient
    size = c * clean.unit  # of the perturbation over that of `gradient`

    def at_site(i, use, x, v, entries):
        perturbed = _explicit_site if leaves[i].mode == "explicit" else _gram_site
        return perturbed(leaves[i], use, x, v, entries, c, size)

    moved = move(w, {i: size * trees.widen(g) for i, g in gradient.copies.items()})
    entries = _entries(network, gradient)
    (outputs, _), cross_terms = network.run(moved, group, at_site, entries)
    if network.objective.penalty is None:
        return outputs, jnp.zeros(())
    penalty = network.objective.penalty(moved)
    cross = [jnp.sum(term) for terms in cross_terms.values() for term in terms]
    cross += _cross_terms_of_weights(network, w, w0, c)
    return outputs, sum(cross, start=penalty)


def _entries(network: Network, gradient: FactoredGradient) -> Entries:
    """What each site needs of g. Under its key: the matrix of its layer for explicit
    leaves, the factors of its layer for gram leaves. Under ("own", key): x and d of the
    site itself, where the penalty asks for them.
    """
    entries: dict[Any, Entry] = {}
    for i, leaf in enumerate(network.plan.leaves):
        if not leaf.uses:
            continue
        gram = leaf.mode == "gram"
        value = factors(leaf, gradient) if gram else gradient.matrices[i]
        for use in leaf.uses:
            entries[use.key] = Entry(value, use.slicing)
            if gram and isinstance(leaf.penalty, L2):
                own = gradient.inputs[use.key], gradient.signals[use.key]
                entries["own", use.key] = Entry(own, use.loops)
    return entries


def _explicit_site(
    leaf: Leaf,
    use: Use,
    x: jax.Array,
    v: jax.Array,
    entries: Entries,
    c: jax.Array,
    size: jax.Array,
) -> Perturbed:
    """y' = X' (M + c g), and lambda <c g, M>, once for all sites of the leaf.

    Args:
      x, v: X' and V. size: c in the unit of `entries`.
    """
    del c
    shift = size * trees.widen(entries[use.key].value)
    shift = jnp.swapaxes(shift, 1, 2) if use.turned else shift
    cross = []
    if isinstance(leaf.penalty, L2) and use is leaf.uses[0]:
        share = leaf.penalty.factor / use.visits
        cross = [share * trees.dot(shift, use.site.matrix(v))]
    return _apply(use.site, x, v, shift), cross


def _gram_site(
    leaf: Leaf,
    use: Use,
    x: jax.Array,
    v: jax.Array,
    entries: Entries,
    c: jax.Array,
    size: jax.Array,
) -> Perturbed:
    """y' = (1 + c lambda) X' V + c (X' X^T) D, and lambda <c d, y>, y from x and V.

    Args:
      x, v: X' and V. size: c in the unit of `entries`.
    """
    change = size * gram_change(leaf, use, x, entries[use.key].value)
    if not isinstance(leaf.penalty, L2):
        return trees.add(use.site.evaluate(x, v), change), []
    factor = leaf.penalty.factor
    x0, d = entries["own", use.key].value
    product = use.site.linear(x0, use.site.evaluate(x0, v))
    cross = factor * trees.dot(size * trees.widen(d), product)
    return trees.add(_scaled(use.site, x, v, 1 + c * factor), change), [cross]


def _cross_terms_of_weights(
    network: Network, w: Tree, w0: Tree, c: jax.Array
) -> list[jax.Array]:
    """c lambda^2 <w0, w> of every gram leaf with an L2 term."""
    pairs = zip(jax.tree.leaves(w), jax.tree.leaves(w0), strict=True)
    return [
        c * leaf.penalty.factor**2 * trees.dot(a, b)
        for leaf, (a, b) in zip(network.plan.leaves, pairs, strict=True)
        if leaf.mode == "gram" and isinstance(leaf.penalty, L2)
    ]


def _apply(site: Site, x: jax.Array, v: jax.Array, shift: jax.Array) -> jax.Array:
    """X' (M + shift)."""

    def value(x, v, shift):
        return site.apply(x, trees.add(site.matrix(v), shift))

    return _with_constant_perturbation(site, value)(x, v, shift)


def _scaled(site: Site, x: jax.Array, v: jax.Array, scale: jax.Array) -> jax.Array:
    """scale X' V: what exceeds X' V is due to the perturbation (scale - 1) V0."""

    def value(x, v, scale):
        y = site.evaluate(x, v)
        return (y + (scale - 1) * site.linear(x, y)).astype(site.y.dtype)

    return _with_constant_perturbation(site, value)(x, v, scale)


def _with_constant_perturbation(site: Site, value: Callable) -> Callable:
    """value(x, v, p), the site at v perturbed by some p, with p held constant.

    Its derivative with respect to v is that of the unperturbed site, x dv: one matrix
    product for all groups, where autodiff of x' (V + shift) would make a matrix for
    each group and add them up. With respect to x it is that of `value`, which is linear
    in x.
    """
    function = jax.custom_jvp(value)

    @function.defjvp
    def tangent(primals, tangents):
        x, v, perturbation = primals
        dx, dv, _ = tangents
        dy = site.evaluate(x, dv)
        if trees.is_floating(x):
            dy += value(dx, v, perturbation)
        return function(x, v, perturbation), dy

    return function
