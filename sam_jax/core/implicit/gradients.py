"""The sharpness-aware gradient of small groups, from the two passes."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sam_jax.core import ascent, groups, trees
from sam_jax.core.gradient import Gradient, check_swap, sharpness_aware_gradient
from sam_jax.core.implicit import passes, penalty, plan, separable
from sam_jax.core.objective import Objective, batch_size

Tree = Any
LARGE = 256 * 2**20  # bytes of copies of one parameter that are worth a warning


def gradient(
    objective: Objective,
    params: Tree,
    batch: Tree,
    *,
    rho: trees.Scalar,
    m: groups.Count = 1,
    normalize: bool = True,
    swap: str | None = None,
    chunk: groups.Count | None = None,
    mask: Tree = None,
    axis_name: str | None = None,
) -> Gradient:
    """`core.gradient.sharpness_aware_gradient` for groups of m, without copies of w.

    Arguments, result and errors are those of that function, with its `rule` normalised
    or not; `Gradient.clean` is None, since no pass computes it. A batch of one group a
    device is plain SAM and is handed to it.
    """
    check_swap(swap)
    params = groups.per_device(params, axis_name)
    formed = groups.form(batch, m, axis_name)
    if formed.number == 1:
        return sharpness_aware_gradient(
            objective,
            params,
            batch,
            rho=rho,
            m=m,
            swap=swap,
            rule=ascent.normalized if normalize else ascent.unnormalized,
            mask=mask,
            axis_name=axis_name,
        )
    pieces = groups.split(batch, formed.number)
    network = trace(objective, params, jax.tree.map(lambda x: x[0], pieces), mask)
    _warn(network.plan, formed.number if chunk is None else chunk)

    def sums(pieces: Tree) -> tuple[Tree, Tree]:
        return _sums(network, params, pieces, rho, normalize, swap)

    like, _ = jax.eval_shape(sums, pieces)
    mean, kept = groups.average_sums(sums, pieces, like, chunk)
    new, aux, length = formed.combine(mean)
    losses, outputs = kept
    return Gradient(new, None, losses, outputs, aux, length)


def trace(
    objective: Objective, params: Tree, group: Tree, mask: Tree = None
) -> passes.Network:
    """Traces an objective on one group's batch, and plans for every parameter.

    Args:
      mask: bools like params: the leaves that are perturbed; None for all.

    Raises: ValueError for an objective that mixes examples, if the group is of one.
    """
    leaves, structure = jax.tree.flatten(params)
    allowed = [True] * len(leaves)
    if mask is not None:
        allowed = ascent.mask_leaves(mask, structure)
    active = [a and trees.is_floating(w) for a, w in zip(allowed, leaves, strict=True)]
    decays: list[Any] = [0] * len(leaves)
    if objective.penalty is not None:
        decays = penalty.decays(objective.penalty_gradient, params)
    made = plan.make(objective.forward, params, group, active=active, decays=decays)
    if batch_size(group) == 1:
        separable.refuse_mixing(objective, params, group)
    return passes.Network(objective, made, decays)


def implicit_gradient(
    objective: Objective,
    params: Tree,
    batch: Tree,
    *,
    rho: trees.Scalar,
    m: groups.Count = 1,
    normalize: bool = True,
    swap: str | None = None,
    chunk: groups.Count | None = None,
) -> tuple[Float[Array, " batch"], Tree]:
    """Per-example losses at w, and the SumMax gradient, without per-example weights.

    The mean over groups J of m examples of grad L_J(w + rho g_J / |g_J|), g_J the
    group's own gradient (Eq. 2; m-sharpness). A layer y = x W gives example i the
    gradient X_i^T D_i, from its inputs X_i and the gradient D_i of its loss by its
    outputs, so that the layer at the group's own weights is

        x' (W + c_i X_i^T D_i) = x' W + c_i (x' X_i^T) D_i,

    and |g_i|^2 = <X_i X_i^T, D_i D_i^T> summed over layers. `core.implicit.passes` has
    the rest of the algebra, and the sources of its parts.

    Args:
      objective: what `predict` sees is one group of m examples at a time.
      params, batch, rho, m, swap, chunk: as in `sam_jax.sharpness_aware_gradient`.
      normalize: ascent step of length rho, otherwise rho g.

    Returns: losses f[B] without the penalty, and a tree like params.

    Raises: ValueError, among others if m = 1 and the loss of an example is seen to
    depend on other examples (BatchNorm in train mode, in-batch negatives).
    """
    result = gradient(
        objective,
        params,
        batch,
        rho=rho,
        m=m,
        normalize=normalize,
        swap=swap,
        chunk=chunk,
    )
    assert result.losses is not None
    return result.losses, result.gradient


def per_example_norms(
    objective: Objective, params: Tree, batch: Tree, m: groups.Count = 1
) -> Float[Array, " groups"]:
    """Gradient norms |g_J| of every group of m examples, f[B / m], without gradients.

    For clipping and for pruning data, with the penalty if the objective has one.
    """
    pieces = groups.split(batch, groups.form(batch, m).number)
    network = trace(objective, params, jax.tree.map(lambda x: x[0], pieces))
    return jax.vmap(lambda group: passes.clean_pass(network, params, group).norm)(
        pieces
    )


def _sums(
    network: passes.Network,
    params: Tree,
    pieces: Tree,
    rho: trees.Scalar,
    normalize: bool,
    swap: str | None,
) -> tuple[Tree, Tree]:
    """Both passes over some groups: sums of (gradient, aux, length); what is kept."""
    clean = jax.vmap(lambda group: passes.clean_pass(network, params, group))(pieces)
    lengths = clean.norm
    scale = trees.reciprocal(lengths) if normalize else jnp.ones_like(lengths)
    scales = jnp.asarray(rho, lengths.dtype) * scale
    leaves, rebuild = trees.floating(params)

    def perturbed(w: Tree, group: Tree, clean: passes.Clean, c: jax.Array):
        return passes.perturbed_pass(network, w, group, clean, c, params)

    def descend(leaves: list) -> jax.Array:
        def one(group, clean, c):
            outputs, penalty = perturbed(rebuild(leaves), group, clean, c)
            if swap == "direction":
                return trees.dot(clean.cotangent, outputs) + penalty
            return network.mean_loss(outputs, group)[0] + penalty

        return jnp.sum(jax.vmap(one)(pieces, clean, scales))

    def descend_at_w(leaves: list) -> jax.Array:
        def one(group, clean, c):
            outputs, _ = perturbed(params, group, clean, c)
            slope = jax.grad(network.mean_loss, has_aux=True)(outputs, group)[0]
            w = rebuild(leaves)
            here, _ = network.objective.forward(w, group)
            value = trees.dot(slope, here)
            penalty = network.objective.penalty
            return value if penalty is None else value + penalty(w)

        return jnp.sum(jax.vmap(one)(pieces, clean, scales))

    new = jax.grad(descend_at_w if swap == "derivative" else descend)(leaves)
    aux = jax.tree.map(lambda x: jnp.sum(x, 0), clean.aux)
    total = (rebuild(new, fill=0), aux, jnp.sum(scales * lengths))
    return total, (groups.join(clean.losses), groups.join(clean.outputs))


def _warn(made: plan.Plan, number: Any) -> None:
    for leaf in made.leaves:
        size = leaf.bytes * int(number)
        if leaf.mode == "materialised" and size > LARGE:
            warnings.warn(
                f"The parameter {leaf.path} {leaf.shape} is {leaf.why}, so that every "
                f"group gets a copy of it, {size / 2**20:.0f} MiB together. Use chunk= "
                "to hold fewer at once, or see sam_jax.implicit_report.",
                stacklevel=4,
            )
