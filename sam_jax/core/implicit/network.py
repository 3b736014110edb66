"""A traced objective, which both passes evaluate with a rule of their own at sites."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, trees
from sam_jax.core.implicit import branches, interpreter, penalty, plan, separable
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.loops import Entries, Loop, run
from sam_jax.core.implicit.plan import Plan
from sam_jax.core.implicit.uses import Use
from sam_jax.core.objective import Objective, batch_size
from sam_jax.ops import compat
from sam_jax.ops.compat import ClosedJaxpr

Tree = Any
# (number of the leaf, use, x, v, entries) -> y, and what to save of this site.
AtSite = Callable[[int, Use, jax.Array, jax.Array, Entries], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Network:
    """objective: as given. plan: how the perturbation of each parameter is held."""

    objective: Objective
    plan: Plan

    def run(
        self, params: Tree, group: Tree, at_site: AtSite, entries: Entries
    ) -> tuple[Tree, dict[Key, Any]]:
        """predict, with `at_site` in place of the sites of implicit leaves.

        Args:
          entries: what `at_site` is given beside x and v, in loops their slices.

        Returns: (outputs, aux), and what was saved at each site, stacked by the loops
          around it.
        """
        sites = {
            use.key: (i, use)
            for i, leaf in enumerate(self.plan.leaves)
            for use in leaf.uses
        }
        entered = self.plan.entered

        def visitor(entries: Entries) -> interpreter.Visit:
            def visit(
                key: Key, eqn: Any, inputs: list[Any]
            ) -> tuple[Sequence[Any], dict[Key, Any]]:
                if key in entered:
                    return enter(key, eqn, inputs, entries)
                if key not in sites:
                    return compat.evaluate(eqn, inputs), {}
                i, use = sites[key]
                v, x = inputs[use.site.weight], inputs[1 - use.site.weight]
                y, saved = at_site(i, use, x, v, entries)
                return [y], {key: saved}

            return visit

        def walk(
            jaxpr: ClosedJaxpr, inputs: Sequence[Any], key: Key, entries: Entries
        ) -> interpreter.Walked:
            visit = visitor(entries)
            return interpreter.walk(jaxpr.jaxpr, jaxpr.consts, inputs, visit, key)

        def enter(
            key: Key, eqn: Any, inputs: list[Any], entries: Entries
        ) -> interpreter.Walked:
            """Runs a loop or branches, with the sites in there."""
            loop = Loop.of(eqn)
            if loop is None:
                within = functools.partial(walk, entries=entries)
                return branches.run(branches.of(eqn), key, inputs, within)
            body = functools.partial(walk, loop.body, key=key)
            return run(
                loop, key, inputs, entries, lambda x, own: body(inputs=x, entries=own)
            )

        jaxpr = self.plan.jaxpr
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(group)]
        outputs, saved = walk(jaxpr, inputs, (), entries)
        return jax.tree.unflatten(self.plan.outputs, outputs), saved

    def mean_loss(self, outputs: Tree, group: Tree) -> tuple[jax.Array, jax.Array]:
        """The mean loss of a group without the penalty, f[], and its losses, f[m]."""
        losses = self.objective.losses(outputs, group)
        return jnp.mean(losses), losses


def trace(
    objective: Objective, params: Tree, group: Tree, mask: Tree = None
) -> Network:
    """Traces an objective on one group's batch, and plans for every parameter.

    Args:
      params, group: arrays or their shapes.
      mask: bools like params: the leaves that are perturbed; None for all.

    Raises: ValueError for an objective that mixes examples, if the group is of one.
    """
    leaves, structure = jax.tree.flatten(params)
    allowed = [True] * len(leaves)
    if mask is not None:
        allowed = ascent.mask_leaves(mask, structure)
    active = [a and trees.is_floating(w) for a, w in zip(allowed, leaves, strict=True)]
    terms = penalty.terms(objective, params)
    made = plan.make(objective.forward, params, group, active=active, terms=terms)
    if batch_size(group) == 1:
        separable.refuse_mixing(objective, params, group)
    return Network(objective, made)


def move(params: Tree, shifts: dict[int, jax.Array]) -> Tree:
    """params with shifts[i] added to leaf number i."""
    leaves, structure = jax.tree.flatten(params)
    for i, shift in shifts.items():
        leaves[i] = trees.add(leaves[i], shift)
    return jax.tree.unflatten(structure, leaves)
