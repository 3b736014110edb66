"""The plan: how the own perturbation of each group is held, parameter by parameter.

`predict` is traced once, for one group. A parameter all of whose uses are sites (see
`sites` and `forms`) is implicit: it takes either the inputs and output gradients of its
sites (gram) or one matrix a group (explicit), whichever is cheaper. Every other
parameter is materialised: every group holds its own copy of it, as under `vmap` over
groups. That is always exact, and small for biases and norm scales.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sam_jax.core.implicit import distribute, uses
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.penalty import Other, Term, Unpenalised
from sam_jax.core.implicit.uses import Use
from sam_jax.ops.compat import ClosedJaxpr

Tree = Any
Mode = Literal["gram", "explicit", "materialised", "still"]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A parameter in the plan.

    path, shape, dtype: as in the tree. uses: its sites, if it is implicit.
    mode: "gram", "explicit", "materialised", or "still" (not perturbed). why: in words.
    penalty: what the penalty is to it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    uses: tuple[Use, ...]
    mode: Mode
    why: str
    penalty: Term

    @property
    def bytes(self) -> int:
        """What its perturbation takes for one group."""
        if self.mode == "gram":
            return sum(
                use.repeats * _bytes(a)
                for use in self.uses
                for a in (use.site.x, use.site.y)
            )
        return 0 if self.mode == "still" else math.prod(self.shape) * _width(self.dtype)


@dataclasses.dataclass(frozen=True)
class Plan:
    """jaxpr: predict for one group, a function of the leaves of (params, batch).

    outputs: structure of what it returns. leaves: the parameters, in tree order.
    """

    jaxpr: ClosedJaxpr
    outputs: Any
    leaves: tuple[Leaf, ...]

    def indices(self, mode: Mode) -> list[int]:
        return [i for i, leaf in enumerate(self.leaves) if leaf.mode == mode]

    @property
    def entered(self) -> set[Key]:
        """Keys of the equations that have sites inside."""
        keys = [use.key for leaf in self.leaves for use in leaf.uses]
        return {key[:i] for key in keys for i in range(1, len(key))}


def make(
    forward: Callable[[Tree, Tree], Tree],
    params: Tree,
    group: Tree,
    *,
    active: Sequence[bool],
    terms: Sequence[Term],
) -> Plan:
    """Traces forward(params, group) and decides for every parameter.

    Args:
      forward: (params, group) -> outputs, any pytree.
      params, group: arrays or their shapes; group has the m examples of one group.
      active: for each leaf of params, whether it may be perturbed.
      terms: for each leaf, what the penalty is to it.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    jaxpr, outputs = jax.make_jaxpr(forward, return_shape=True)(params, group)
    jaxpr = distribute.rewrite(jaxpr, len(paths))
    found = uses.find(jaxpr, [jnp.shape(value) for _, value in paths])
    leaves = []
    for i, (path, value) in enumerate(paths):
        mode, why = _decide(found[i], active[i], terms[i])
        leaves.append(
            Leaf(
                jax.tree_util.keystr(path),
                jnp.shape(value),
                jnp.result_type(value),
                uses.aligned(found[i].sites) if mode in ("gram", "explicit") else (),
                mode,
                why,
                terms[i],
            )
        )
    return Plan(jaxpr, jax.tree.structure(outputs), tuple(leaves))


def _decide(found: uses.Found, active: bool, penalty: Term) -> tuple[Mode, str]:
    """How a parameter is held, and why, in words."""
    unread = not found.sites and not found.others
    if not active:
        return "still", "outside the mask, or not a floating array"
    if unread and isinstance(penalty, Unpenalised):
        return "still", "not read by predict"
    if found.others or unread:
        names = ", ".join(sorted(set(found.others))) or "the penalty alone"
        return "materialised", f"read by {names}"
    if isinstance(penalty, Other):
        return "materialised", "the penalty is no multiple of its squared norm"
    aligned = uses.aligned(found.sites)
    if not aligned:
        return "materialised", "used in several forms"
    if any(use.branched for use in aligned):
        # What a leaf needs but once has no place in a branch.
        if isinstance(penalty, Unpenalised):
            return "gram", "used in a branch"
        return "materialised", "used in a branch, and penalised"
    gram, explicit = _costs(aligned)
    if gram <= explicit:
        return "gram", f"{gram:.2g} multiplications, explicit {explicit:.2g}"
    return "explicit", f"{explicit:.2g} multiplications, gram {gram:.2g}"


def _costs(aligned: Sequence[Use]) -> tuple[float, float]:
    """Multiplications that a group's own perturbation adds, by gram and explicitly.

    Gram: X X^T and D D^T for the norm, X' X^T and its product with D, and the two
    products of the backward pass of that. Explicit: X^T D, and a few passes over a
    matrix a group, each as slow as a few multiplications.
    """
    first = aligned[0].site
    positions = sum(use.positions for use in aligned)
    gram = first.gram_cost * (positions / first.positions) ** 2
    mix = first.blocks * positions**2 * first.outputs
    matrix = first.blocks * first.inputs * first.outputs
    layers = aligned[0].layers
    return 3.0 * layers * (gram + mix), float(layers * matrix * positions)


def _width(dtype: Any) -> int:
    return jnp.dtype(dtype).itemsize


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * _width(aval.dtype)
