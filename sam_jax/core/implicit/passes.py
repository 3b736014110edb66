"""The two passes of one group.

Pass 1, at w, gives the group's gradient g in factored form: x and d at the sites of
gram leaves, X^T D for explicit leaves, g itself for materialised ones. Pass 2 evaluates
the network at w + c g without forming it. Both are mapped over groups by `jax.vmap`
with w unbatched, so that the gradient of pass 2 with respect to w is one ordinary
backward pass over all groups. As in every form of SAM, c g is held constant there.

With an L2 term of factor lambda (see `penalty`) the gradient is X^T D + lambda V. At a
gram site this takes no product beyond those of the loss, since V enters linearly:

    <X^T D, V> = <d, x V> = <d, y>,
    |g|^2 = |X^T D|^2 + 2 lambda <d, y> + lambda^2 |V|^2,
    x' (V + c g) = (1 + c lambda) x' V + c (X' X^T) D.

Per-example gradient norms from X and D: Goodfellow (2015, arXiv:1510.01799) for dense
layers, Rochette et al. (2019, arXiv:1912.06015) for convolutions, Li et al. (2022,
arXiv:2110.05679) for sequences ("ghost clipping"), Bu et al. (2022, arXiv:2205.10683)
for choosing between <X X^T, D D^T> and X^T D layer by layer.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import trees
from sam_jax.core.implicit import interpreter
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.plan import Leaf, Plan, Use
from sam_jax.core.implicit.sites import Site, exact_product, inner_product
from sam_jax.core.objective import Objective

Tree = Any
AtSite = Callable[[int, Use, jax.Array, jax.Array], tuple[jax.Array, dict]]


class GroupGradient(NamedTuple):
    """A group's gradient g in factored form.

    copies: leaf -> its gradient, for materialised leaves.
    matrices: leaf -> gradient of M, for explicit leaves. Both with the penalty's.
    inputs, signals: site -> x and d, for gram leaves, without the penalty's.
    """

    copies: dict[int, jax.Array]
    matrices: dict[int, jax.Array]
    inputs: dict[Key, jax.Array]
    signals: dict[Key, jax.Array]


class Clean(NamedTuple):
    """Pass 1 of a group, at w.

    outputs, aux: of predict. losses: f[m], without the penalty.
    cotangent: gradient of the mean loss with respect to the outputs.
    gradient: of the mean loss plus the penalty. norm: its l2 norm.
    """

    outputs: Tree
    aux: Tree
    losses: jax.Array
    cotangent: Tree
    gradient: GroupGradient
    norm: jax.Array


@dataclasses.dataclass(frozen=True)
class Network:
    """A traced objective.

    decays: for each leaf lambda of its L2 term; the Python number 0 for none, None
    where the penalty is of another kind.
    """

    objective: Objective
    plan: Plan
    decays: list[Any]

    def run(self, params: Tree, group: Tree, at_site: AtSite) -> tuple[Tree, dict]:
        """predict, with `at_site(leaf, use, x, v) -> (y, saved)` at implicit leaves.

        Returns: (outputs, aux), and what was saved at each site.
        """
        sites = {
            use.key: (i, use)
            for i, leaf in enumerate(self.plan.leaves)
            for use in leaf.uses
        }

        def visit(key, eqn, inputs):
            if key not in sites:
                return interpreter.evaluate(eqn, inputs), {}
            leaf, use = sites[key]
            v, x = inputs[use.site.weight], inputs[1 - use.site.weight]
            y, saved = at_site(leaf, use, x, v)
            return [y], {key: saved}

        jaxpr = self.plan.jaxpr
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(group)]
        outputs, saved = interpreter.walk(jaxpr.jaxpr, jaxpr.consts, inputs, visit)
        return jax.tree.unflatten(self.plan.outputs, outputs), saved

    def mean_loss(self, outputs: Tree, group: Tree) -> tuple[jax.Array, jax.Array]:
        losses = self.objective.losses(outputs, group)
        return jnp.mean(losses), losses


def clean_pass(network: Network, params: Tree, group: Tree) -> Clean:
    """Pass 1. Zero shifts stand where pass 2 moves the network; one pull-back with
    respect to them gives every d, every X^T D and the gradients of copies.
    """

    def forward(shifts):
        copies, probes = shifts

        def at_site(leaf, use, x, v):
            y = use.site.evaluate(x, v)
            return y + probes[use.key], {"x": x, "v": v, "y": y}

        moved = _move(params, copies)
        (outputs, aux), saved = network.run(moved, group, at_site)
        return outputs, (aux, saved)

    shifts = _zero_shifts(network.plan, params)
    outputs, pull, (aux, saved) = jax.vjp(forward, shifts, has_aux=True)
    loss = jax.value_and_grad(network.mean_loss, has_aux=True)
    (_, losses), cotangent = loss(outputs, group)
    ((copies, signals),) = pull(cotangent)
    gradient = _factored(network.plan, copies, signals, saved)
    gradient = _with_penalty(network, params, gradient, saved)
    norm = _norm(network, params, gradient, saved)
    return Clean(outputs, aux, losses, cotangent, gradient, norm)


def perturbed_pass(
    network: Network, params: Tree, group: Tree, clean: Clean, c: jax.Array, w: Tree
) -> tuple[Tree, jax.Array]:
    """Pass 2, at params + c g, where c g is a constant.

    Args:
      params: what the descent gradient is taken with respect to.
      clean: of pass 1. c: length of the perturbation over that of g, f[].
      w: the value of params, as a constant (g of an L2 term contains it).

    Returns: predict's outputs, and the penalty up to a constant.
    """
    leaves, gradient = network.plan.leaves, clean.gradient

    def at_site(i, use, x, v):
        decay = network.decays[i]
        if leaves[i].mode == "explicit":
            shift = c * trees.widen(gradient.matrices[i])
            tilt = decay * trees.dot(shift, use.site.matrix(v))
            return _apply(use.site, x, v, shift), tilt if use is leaves[i].uses[
                0
            ] else 0
        shift = c * _gram_shift(leaves[i], use, x, gradient)
        d = c * trees.widen(gradient.signals[use.key])
        if _is_none(decay):
            return trees.add(use.site.evaluate(x, v), shift), 0
        tilt = decay * trees.dot(d, use.site.evaluate(gradient.inputs[use.key], v))
        return trees.add(_scaled(use.site, x, v, 1 + c * decay), shift), tilt

    moved = _move(params, {i: c * trees.widen(g) for i, g in gradient.copies.items()})
    (outputs, _), tilts = network.run(moved, group, at_site)
    if network.objective.penalty is None:
        return outputs, jnp.zeros(())
    penalty = network.objective.penalty(moved)
    pulls = [
        c * network.decays[i] ** 2 * trees.dot(a, b)
        for i, (a, b) in enumerate(zip(*map(jax.tree.leaves, (params, w)), strict=True))
        if leaves[i].mode == "gram"
    ]
    return outputs, sum((*tilts.values(), *pulls), start=penalty)


def _zero_shifts(plan: Plan, params: Tree) -> tuple[dict, dict]:
    """What pass 1 is differentiated by: copies of leaves, and probes at outputs."""
    weights = jax.tree.leaves(params)
    copies = {i: jnp.zeros_like(weights[i]) for i in plan.indices("materialised")}
    probes = {use.key: _zeros(use.site.y) for leaf in plan.leaves for use in leaf.uses}
    return copies, probes


def _zeros(like: Any) -> jax.Array:
    """Zeros, each device's own under `jax.shard_map` if `like` is: the gradient with
    respect to shared ones would be summed over devices.
    """
    zeros = jnp.zeros(like.shape, like.dtype)
    varying = tuple(like.manual_axis_type.varying)
    return jax.lax.pcast(zeros, varying, to="varying") if varying else zeros


def _factored(plan: Plan, copies: dict, signals: dict, saved: dict) -> GroupGradient:
    """Keeps x and d of gram leaves, and makes X^T D of those of explicit leaves."""
    gram = [use.key for i in plan.indices("gram") for use in plan.leaves[i].uses]
    matrices = {}
    for i in plan.indices("explicit"):
        parts = [
            _matrix_gradient(use.site, saved[use.key]["x"], signals[use.key])
            for use in plan.leaves[i].uses
        ]
        matrices[i] = sum(parts[1:], start=parts[0])
    return GroupGradient(
        copies,
        matrices,
        {key: saved[key]["x"] for key in gram},
        {key: signals[key] for key in gram},
    )


def _matrix_gradient(site: Site, x: jax.Array, d: jax.Array) -> jax.Array:
    """X^T D: `site.apply` is linear in M, and this is its transpose."""
    matrix = jax.eval_shape(site.matrix, site.v)
    return jax.linear_transpose(lambda m: site.apply(x, m), matrix)(d)[0]


def _move(params: Tree, shifts: dict[int, jax.Array]) -> Tree:
    leaves, structure = jax.tree.flatten(params)
    for i, shift in shifts.items():
        leaves[i] = trees.add(leaves[i], shift)
    return jax.tree.unflatten(structure, leaves)


def _apply(site: Site, x: jax.Array, v: jax.Array, shift: jax.Array) -> jax.Array:
    """y with M + shift for M."""

    def value(x, v, shift):
        return site.apply(x, trees.add(site.matrix(v), shift))

    return _constant_perturbation(site, value)(x, v, shift)


def _scaled(site: Site, x: jax.Array, v: jax.Array, scale: jax.Array) -> jax.Array:
    """scale * y: what exceeds y is due to a perturbation (scale - 1) V."""

    def value(x, v, scale):
        return (scale * site.evaluate(x, v)).astype(site.y.dtype)

    return _constant_perturbation(site, value)(x, v, scale)


def _constant_perturbation(site: Site, value: Callable) -> Callable:
    """value(x, v, p), the site at v perturbed by some p, with p held constant.

    Its derivative by v is that of the unperturbed site, x dv, which is all one product
    over the groups: autodiff of x' (V + shift) would make a matrix a group and add them
    up. By x it is that of `value`, which is linear in x.
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


def _lefts(leaf: Leaf, inputs: dict[Key, jax.Array]) -> jax.Array:
    """X of all uses of a weight: those of one layer called twice are positions too."""
    return jnp.concatenate([u.site.left(inputs[u.key]) for u in leaf.uses], axis=1)


def _rows(leaf: Leaf, signals: dict[Key, jax.Array]) -> jax.Array:
    """D of all uses of a weight."""
    return jnp.concatenate([u.site.rows(signals[u.key]) for u in leaf.uses], axis=1)


def _gram_shift(
    leaf: Leaf, use: Use, x: jax.Array, gradient: GroupGradient
) -> jax.Array:
    """(X' X^T) D as a change of y."""
    site = use.site
    if len(leaf.uses) == 1:
        gram = site.gram(x, gradient.inputs[use.key])
    else:
        gram = site.inner(site.left(x), _lefts(leaf, gradient.inputs))
    return site.unrows(exact_product(gram, _rows(leaf, gradient.signals)))


def _squared_gram_norm(leaf: Leaf, gradient: GroupGradient) -> jax.Array:
    """|X^T D|^2 = <X X^T, D D^T>."""
    use = leaf.uses[0]
    if len(leaf.uses) == 1:
        x = gradient.inputs[use.key]
        gram = use.site.gram(x, x)
    else:
        lefts = _lefts(leaf, gradient.inputs)
        gram = use.site.inner(lefts, lefts)
    d = _rows(leaf, gradient.signals)
    return jnp.sum(gram * inner_product(d, d))


def _with_penalty(
    network: Network, params: Tree, gradient: GroupGradient, saved: dict
) -> GroupGradient:
    """Adds the penalty's gradient to the leaves that hold theirs as an array."""
    penalty = network.objective.penalty_gradient(params)
    if penalty is None:
        return gradient
    slopes = jax.tree.leaves(penalty)
    copies = {i: trees.add(g, slopes[i]) for i, g in gradient.copies.items()}
    matrices = {}
    for i, g in gradient.matrices.items():
        use = network.plan.leaves[i].uses[0]
        decay, v = network.decays[i], saved[use.key]["v"]
        matrices[i] = (
            g if _is_none(decay) else (trees.add_scaled(g, decay, use.site.matrix(v)))
        )
    return gradient._replace(copies=copies, matrices=matrices)


def _norm(
    network: Network, params: Tree, gradient: GroupGradient, saved: dict
) -> jax.Array:
    """|g| over all perturbed leaves, f[], in float32 or wider."""
    squares = [trees.dot(part, part) for part in (gradient.copies, gradient.matrices)]
    weights = jax.tree.leaves(params)
    for i in network.plan.indices("gram"):
        leaf, decay = network.plan.leaves[i], network.decays[i]
        squares.append(_squared_gram_norm(leaf, gradient))
        if not _is_none(decay):
            squares += [
                2 * decay * trees.dot(gradient.signals[use.key], saved[use.key]["y"])
                for use in leaf.uses
            ]
            squares.append(decay**2 * trees.dot(weights[i], weights[i]))
    return jnp.sqrt(jnp.maximum(sum(squares), 0))  # rounding can leave less than 0


def _is_none(decay: Any) -> bool:
    """Whether there is no penalty, known before anything is computed."""
    return isinstance(decay, int)
