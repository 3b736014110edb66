"""The plan: how the own perturbation of each group is held, parameter by parameter.

`predict` is traced once, for one group. A parameter all of whose uses are sites (see
`sites`) is implicit: it takes either the inputs and output gradients of its sites
(gram) or one matrix a group (explicit), whichever is cheaper. Every other parameter is
materialised: every group holds its own copy of it, as under `vmap` over groups. That is
always exact, and small for biases and norm scales.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core.implicit import interpreter, primitives
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.penalty import Other, Term, Unpenalised
from sam_jax.core.implicit.sites import Site
from sam_jax.ops import compat
from sam_jax.ops.compat import ClosedJaxpr, JaxprEqn

Tree = Any
Mode = Literal["gram", "explicit", "materialised", "still"]


class Parameter(NamedTuple):
    """What the walk knows of a value: parameter number `leaf`, seen through `steps`,
    the views that were taken of it.
    """

    leaf: int
    steps: tuple[str, ...]


class Use(NamedTuple):
    """A parameter read at the site of equation `key`, seen through `steps`."""

    key: Key
    site: Site
    steps: tuple[str, ...]


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
            return sum(_bytes(a) for u in self.uses for a in (u.site.x, u.site.y))
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
    uses, others = _find_uses(jaxpr, len(paths))
    leaves = []
    for i, (path, value) in enumerate(paths):
        mode, why = _decide(uses[i], others[i], active[i], terms[i])
        leaves.append(
            Leaf(
                jax.tree_util.keystr(path),
                jnp.shape(value),
                jnp.result_type(value),
                tuple(uses[i]) if mode in ("gram", "explicit") else (),
                mode,
                why,
                terms[i],
            )
        )
    return Plan(jaxpr, jax.tree.structure(outputs), tuple(leaves))


def _find_uses(
    jaxpr: ClosedJaxpr, count: int
) -> tuple[list[list[Use]], list[list[str]]]:
    """For each of the first `count` inputs: its sites, and who else reads it."""
    uses: list[list[Use]] = [[] for _ in range(count)]
    others: list[list[str]] = [[] for _ in range(count)]

    def visit(key: Key, eqn: JaxprEqn, inputs: list[Any]) -> tuple[list[Any], dict]:
        read = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Parameter)]
        name = compat.name(eqn)
        if len(read) == 1:
            position, seen = read[0]
            if primitives.view(eqn) is not None:
                return [Parameter(seen.leaf, (*seen.steps, f"{name}{eqn.params}"))], {}
            site = primitives.site(eqn, position)
            if site is not None:
                uses[seen.leaf].append(Use(key, site, seen.steps))
                return [None], {}
        for _, seen in read:
            others[seen.leaf].append(name)
        return [None] * len(eqn.outvars), {}

    inputs: list[Parameter | None] = [None] * len(jaxpr.jaxpr.invars)
    inputs[:count] = [Parameter(i, ()) for i in range(count)]
    consts = [None] * len(jaxpr.consts)
    outputs, _ = interpreter.walk_abstract(jaxpr.jaxpr, consts, inputs, visit)
    for seen in outputs:
        if isinstance(seen, Parameter):
            others[seen.leaf].append("the outputs")
    return uses, others


def _decide(
    uses: list[Use], others: list[str], active: bool, penalty: Term
) -> tuple[Mode, str]:
    """How a parameter is held, and why, in words."""
    unread = not uses and not others
    if not active:
        return "still", "outside the mask, or not a floating array"
    if unread and isinstance(penalty, Unpenalised):
        return "still", "not read by predict"
    if others or unread:
        names = ", ".join(sorted(set(others))) or "the penalty alone"
        return "materialised", f"read by {names}"
    if isinstance(penalty, Other):
        return "materialised", "the penalty is no multiple of its squared norm"
    if len({(use.site.layout, use.steps) for use in uses}) > 1:
        return "materialised", "used in several forms"
    gram, explicit = _costs([use.site for use in uses])
    if gram <= explicit:
        return "gram", f"{gram:.2g} multiplications, explicit {explicit:.2g}"
    return "explicit", f"{explicit:.2g} multiplications, gram {gram:.2g}"


def _costs(sites: Sequence[Site]) -> tuple[float, float]:
    """Multiplications that a group's own perturbation adds, by gram and explicitly.

    Gram: X X^T and D D^T for the norm, X' X^T and its product with D, and the two
    products of the backward pass of that. Explicit: X^T D, and a few passes over a
    matrix a group, each as slow as a few multiplications.
    """
    first, positions = sites[0], sum(site.positions for site in sites)
    gram = first.gram_cost * (positions / first.positions) ** 2
    mix = first.blocks * positions**2 * first.outputs
    matrix = first.blocks * first.inputs * first.outputs
    return 3.0 * (gram + mix), float(matrix * positions)


def _width(dtype: Any) -> int:
    return jnp.dtype(dtype).itemsize


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * _width(aval.dtype)
