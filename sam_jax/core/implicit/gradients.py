"""The sharpness-aware gradient of small groups, from two passes.

Pass 1, at w, gives every group's gradient g in factored form (`clean_pass`,
`factored`). Pass 2 evaluates the network at w + c g without forming it
(`perturbed_pass`). Both are mapped over groups by `jax.vmap` with w unbatched, so that
the gradient of pass 2 with respect to w (`descent`) is one ordinary backward pass over
all groups.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sam_jax.core import ascent, devices, groups, randomness, trees
from sam_jax.core.gradient import Gradient, check_swap, sharpness_aware_gradient
from sam_jax.core.implicit import descent
from sam_jax.core.implicit.clean_pass import clean_pass
from sam_jax.core.implicit.network import trace
from sam_jax.core.implicit.perturbed_pass import perturbed_pass
from sam_jax.core.implicit.plan import Plan
from sam_jax.core.objective import Objective
from sam_jax.ops import layouts

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
    params = devices.own(params, axis_name)
    formed = groups.form(batch, m, axis_name)
    if formed.number == 1:
        return sharpness_aware_gradient(
            objective,
            params,
            batch,
            rho=rho,
            m=m,
            swap=swap,
            rule=ascent.plain(normalize),
            mask=mask,
            axis_name=axis_name,
        )
    pieces = groups.split(batch, formed.number)
    network = trace(objective, params, layouts.types_of_one(pieces), mask)
    randomness.refuse_shared_draws(network.plan.jaxpr, len(network.plan.leaves))
    _warn(network.plan, formed.number if chunk is None else chunk)

    sums = functools.partial(
        descent.sums, network, params, rho=rho, normalize=normalize, swap=swap
    )
    like, _ = jax.eval_shape(sums, pieces)
    mean, kept = groups.average_sums(sums, pieces, like, chunk)
    new, aux, length = formed.combine(mean)
    losses, outputs = kept
    devices.refuse_shared("a loss that", losses, axis_name)
    return Gradient(new, None, losses, outputs, aux, length)


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
    has_aux: bool = False,
) -> tuple[Any, Tree]:
    """Per-example losses at w, and the SumMax gradient, without per-example weights.

    The mean over groups J of m examples of grad L_J(w + rho g_J / |g_J|), g_J the
    group's own gradient (Eq. 2; m-sharpness). A layer y = x W gives example i the
    gradient X_i^T D_i, from its inputs X_i and the gradient D_i of its loss by its
    outputs, so that the layer at the group's own weights is

        x' (W + c_i X_i^T D_i) = x' W + c_i (x' X_i^T) D_i,

    and |g_i|^2 = <X_i X_i^T, D_i D_i^T> summed over layers. `factored` has the norm and
    its sources, `perturbed_pass` the perturbed network with its L2 term, and `sites`
    the algebra of a layer.

    Args:
      objective: what `predict` sees is one group of m examples at a time.
      params, batch, rho, m, swap, chunk: as in `sam_jax.sharpness_aware_gradient`.
      normalize: ascent step of length rho, otherwise rho g.
      has_aux: also hand on what predict returns beside its outputs at w.

    Returns: losses f[B] without the penalty, and a tree like params; with `has_aux`
      (losses, aux) and the tree, aux the mean over groups.

    Raises: ValueError, among others if m = 1 and the loss of an example is seen to
    depend on other examples (BatchNorm in train mode, in-batch negatives).
    """
    ascent.check_radius("implicit_gradient", rho)
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
    kept = (result.losses, result.aux) if has_aux else result.losses
    return kept, result.gradient


def per_example_norms(
    objective: Objective, params: Tree, batch: Tree, m: groups.Count = 1
) -> Float[Array, " groups"]:
    """Gradient norms |g_J| of every group of m examples, f[B / m], without gradients.

    For pruning data, and to choose what `sam_jax.clipped_gradient` clips to; with the
    penalty if the objective has one.
    """
    pieces = groups.split(batch, groups.form(batch, m).number)
    network = trace(objective, params, layouts.types_of_one(pieces))
    return jax.vmap(lambda group: clean_pass(network, params, group).norm)(pieces)


def perturbed_outputs(
    objective: Objective,
    params: Tree,
    batch: Tree,
    *,
    rho: trees.Scalar,
    m: groups.Count = 1,
) -> tuple[Tree, Tree]:
    """What `predict` gives at w, and for every group J at w + rho g_J / |g_J|.

    The outputs that SumMax (m = 1), m-sharpness and SAM (m of the whole batch) take
    their loss derivatives at, without weights of their own for the groups.

    Returns: two trees like the outputs of `predict`, [B, ...]; an example is seen
      within its group.
    """
    ascent.check_radius("perturbed_outputs", rho)
    pieces = groups.split(batch, groups.form(batch, m).number)
    network = trace(objective, params, layouts.types_of_one(pieces))

    def both(group: Tree) -> tuple[Tree, Tree]:
        clean = clean_pass(network, params, group)
        c = jnp.asarray(rho, clean.norm.dtype) * trees.reciprocal(clean.norm)
        outputs, _ = perturbed_pass(network, params, params, group, clean, c)
        return clean.outputs, outputs

    here, there = jax.vmap(both)(pieces)
    return groups.join(here), groups.join(there)


def _warn(plan: Plan, number: Any) -> None:
    for leaf in plan.leaves:
        size = leaf.bytes * int(number)
        if leaf.mode == "materialised" and size > LARGE:
            warnings.warn(
                f"The parameter {leaf.path} {leaf.shape} is {leaf.why}, so that every "
                f"group gets a copy of it, {size / 2**20:.0f} MiB together. Use chunk= "
                "to hold fewer at once, or see sam_jax.implicit_report.",
                stacklevel=4,
            )
