"""The gradient of one group in factored form, and its norm.

G is the gradient of the group's mean loss, and g = G + grad penalty(w) that of its
objective. `sites` has the notation X, D, M of a layer, whose G is X^T D. For a leaf
with an L2 term of factor lambda (see `penalty`), g = X^T D + lambda V. At a gram site
this takes no product beyond those of the loss, since V enters linearly. (All of it is
in units of about the size of G, see `clean_pass`: there D, G, g are those of the
equations over the unit, and so is lambda, where it is a part of g.)

    <X^T D, V> = <D, X V> = <d, y>,
    |g|^2 = |X^T D|^2 + 2 lambda <d, y> + lambda^2 |V|^2,   |X^T D|^2 = <X X^T, D D^T>.

Per-example gradient norms from X and D: Goodfellow (2015, arXiv:1510.01799) for dense
layers, Rochette et al. (2019, arXiv:1912.06015) for convolutions, Li et al. (2022,
arXiv:2110.05679) for sequences ("ghost clipping"), Bu et al. (2022, arXiv:2205.10683)
for choosing between <X X^T, D D^T> and X^T D layer by layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.implicit import parts
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.network import Network
from sam_jax.core.implicit.penalty import L2
from sam_jax.core.implicit.plan import Leaf, Plan
from sam_jax.core.implicit.uses import Use

Tree = Any


class Passed(NamedTuple):
    """What pass 1 saw at a site, stacked by the loops around it. x: its input. y: X V,
    and v: the weight there; None where no L2 term asks for them.
    """

    x: jax.Array
    y: jax.Array | None
    v: jax.Array | None

    @classmethod
    def at(
        cls, leaf: Leaf, use: Use, x: jax.Array, v: jax.Array, y: jax.Array
    ) -> "Passed":
        """What is to be kept at a use of this leaf."""
        penalised = isinstance(leaf.penalty, L2)
        first = penalised and leaf.mode == "explicit" and use is leaf.uses[0]
        gram = penalised and leaf.mode == "gram"
        return cls(x, use.site.linear(x, y) if gram else None, v if first else None)


class FactoredGradient(NamedTuple):
    """g of a group, each leaf in the form in which the plan holds it.

    copies: leaf -> g, for materialised leaves.
    matrices: leaf -> g as a matrix like M, for explicit leaves; one for each layer, if
      the leaf is a stack of layers.
    inputs, signals: site -> x and d, for gram leaves. They make up G; the rest of g,
      lambda V, needs no more than w itself.
    """

    copies: dict[int, jax.Array]
    matrices: dict[int, jax.Array]
    inputs: dict[Key, jax.Array]
    signals: dict[Key, jax.Array]


def of_loss(
    plan: Plan,
    copies: dict[int, jax.Array],
    signals: dict[Key, jax.Array],
    passed: dict[Key, Passed],
) -> FactoredGradient:
    """G: keeps x and d of gram leaves, and makes X^T D of those of explicit leaves."""
    gram = [use.key for i in plan.indices("gram") for use in plan.leaves[i].uses]
    matrices = {}
    for i in plan.indices("explicit"):
        terms = [
            parts.matrix_gradient(use, passed[use.key].x, signals[use.key])
            for use in plan.leaves[i].uses
        ]
        matrices[i] = sum(terms[1:], start=terms[0])
    return FactoredGradient(
        copies,
        matrices,
        {key: passed[key].x for key in gram},
        {key: signals[key] for key in gram},
    )


def with_penalty(
    network: Network,
    params: Tree,
    loss: FactoredGradient,
    passed: dict[Key, Passed],
    unit: jax.Array,
) -> FactoredGradient:
    """g, from G: adds the penalty's gradient to the leaves that hold theirs whole."""
    penalty = network.objective.penalty_gradient(params)
    if penalty is None:
        return loss
    slopes = jax.tree.leaves(trees.scale(penalty, 1 / unit))
    copies = {i: trees.add(g, slopes[i]) for i, g in loss.copies.items()}
    matrices = dict(loss.matrices)
    for i, g in loss.matrices.items():
        leaf = network.plan.leaves[i]
        if isinstance(leaf.penalty, L2):
            use, v = leaf.uses[0], passed[leaf.uses[0].key].v
            assert v is not None
            m = parts.matrices(use, v)
            matrices[i] = trees.add_scaled(g, leaf.penalty.factor / unit, m)
    return loss._replace(copies=copies, matrices=matrices)


def squares(
    network: Network,
    params: Tree,
    gradient: FactoredGradient,
    passed: dict[Key, Passed],
    unit: jax.Array,
) -> list[jax.Array]:
    """|g / unit|^2 of every leaf, f[], in float32 or wider; 0 for one that is still."""
    whole = {**gradient.copies, **gradient.matrices}
    weights = jax.tree.leaves(params)
    found = []
    for i, leaf in enumerate(network.plan.leaves):
        if leaf.mode != "gram":
            found.append(trees.dot(whole.get(i), whole.get(i)))
            continue
        square = _squared_gram_norm(leaf, gradient)
        if isinstance(leaf.penalty, L2):
            factor = leaf.penalty.factor / unit
            for use in leaf.uses:
                cross = trees.dot(gradient.signals[use.key], passed[use.key].y)
                square += 2 * factor * cross
            square += factor**2 * trees.dot(weights[i], weights[i])
        # Rounding can leave less than 0.
        found.append(jnp.maximum(square, 0))
    return found


def factors(leaf: Leaf, gradient: FactoredGradient) -> Any:
    """What `gram_change` needs of a leaf, one for each layer: x and d of its only use,
    or the parts of X and D of all its uses.
    """
    if _is_alone(leaf):
        key = leaf.uses[0].key
        return gradient.inputs[key], gradient.signals[key]
    return parts.of(leaf.uses, gradient.inputs, gradient.signals)


def _is_alone(leaf: Leaf) -> bool:
    """Whether every weight of a leaf is used once."""
    (use, *others) = leaf.uses
    return not others and use.loops == use.slicing


def _squared_gram_norm(leaf: Leaf, gradient: FactoredGradient) -> jax.Array:
    """|X^T D|^2 = <X X^T, D D^T>, summed over layers."""
    use = leaf.uses[0]

    def alone(x_and_d: Any) -> jax.Array:
        x, d = x_and_d
        rows = use.site.rows(d)
        return jnp.sum(use.site.gram(x, x) * parts.inner_product(rows, rows))

    one: Callable = alone if _is_alone(leaf) else parts.squared_norm
    for _ in use.slicing:
        one = jax.vmap(one)
    return jnp.sum(one(factors(leaf, gradient)))


def gram_change(leaf: Leaf, use: Use, x: jax.Array, factors: Any) -> jax.Array:
    """(X' X^T) D: what y at a use changes by where the weight changes by X^T D.

    Args:
      x: the input X' of this use at the perturbed point. factors: of its layer.
    """
    site = use.site
    if _is_alone(leaf):
        x0, d = factors
        change = parts.exact_product(site.gram(x, x0), site.rows(d))
    else:
        change = parts.product(site.left(x), factors, use)
    return site.unrows(change)
