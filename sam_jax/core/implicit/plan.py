"""The plan: how the own perturbation of each group is held, parameter by parameter.

`predict` is traced once, for one group. A parameter all of whose uses are sites (see
`sites`) is implicit: it takes either the inputs and output gradients of its sites
(gram) or one matrix a group (explicit), whichever is cheaper. Every other parameter is
materialised: one copy a group, as `vmap` over groups has it, which is always exact and,
for biases and norm scales, small.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from sam_jax.core.implicit import interpreter
from sam_jax.core.implicit.conv_site import Conv
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.sites import Dot, Site, Take
from sam_jax.ops import convolution

Tree = Any
Mode = Literal["gram", "explicit", "materialised", "still"]

# Primitives that move or cast the entries of an array, each to a place of its own.
VIEWS = frozenset(
    ("reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy")
)


class View(NamedTuple):
    """What the walk knows of a value: parameter number `leaf`, seen through `steps`."""

    leaf: int
    steps: tuple[str, ...]


class Use(NamedTuple):
    """A parameter read at the site of equation `key`, through the steps of a view."""

    key: Key
    site: Site
    steps: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A parameter in the plan.

    path, shape, dtype: as in the tree. uses: its sites, if it is implicit.
    mode: "gram", "explicit", "materialised", or "still" (not perturbed). why: in words.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    uses: tuple[Use, ...]
    mode: Mode
    why: str

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
    decays: Sequence[Any],
) -> Plan:
    """Traces forward(params, group) and decides for every parameter.

    Args:
      forward: (params, group) -> outputs, any pytree.
      params, group: arrays or their shapes; group has the m examples of one group.
      active: for each leaf of params, whether it may be perturbed.
      decays: for each leaf, what `penalty.decays` found.
    """
    paths, _ = jax.tree_util.tree_flatten_with_path(params)
    jaxpr, outputs = jax.make_jaxpr(forward, return_shape=True)(params, group)
    uses, others = _find_uses(jaxpr, len(paths))
    leaves = []
    for i, (path, value) in enumerate(paths):
        mode, why = _decide(uses[i], others[i], active[i], decays[i])
        leaves.append(
            Leaf(
                jax.tree_util.keystr(path),
                jnp.shape(value),
                jnp.result_type(value),
                tuple(uses[i]) if mode in ("gram", "explicit") else (),
                mode,
                why,
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
        seen = [(i, x) for i, x in enumerate(inputs) if isinstance(x, View)]
        name = eqn.primitive.name
        if len(seen) == 1:
            position, view = seen[0]
            if name in VIEWS and _is_real(eqn.outvars[0].aval):
                return [View(view.leaf, (*view.steps, f"{name}{eqn.params}"))], {}
            site = _site(eqn, position)
            if site is not None:
                uses[view.leaf].append(Use(key, site, view.steps))
                return [None], {}
        for _, view in seen:
            others[view.leaf].append(name)
        return [None] * len(eqn.outvars), {}

    inputs: list[View | None] = [None] * len(jaxpr.jaxpr.invars)
    inputs[:count] = [View(i, ()) for i in range(count)]
    consts = [None] * len(jaxpr.consts)
    outputs, _ = interpreter.walk_abstract(jaxpr.jaxpr, consts, inputs, visit)
    for view in outputs:
        if isinstance(view, View):
            others[view.leaf].append("the outputs")
    return uses, others


def _site(eqn: JaxprEqn, position: int) -> Site | None:
    """The site of an equation that reads a parameter at one position, if it is one."""
    name = eqn.primitive.name
    read = eqn.invars[:2] if name in ("dot_general", *convolution.NAMES) else ()
    if not all(_is_real(v.aval) for v in (*read, *eqn.outvars)):
        return None
    if name == "dot_general":
        return Dot.of(eqn, position)
    if name in convolution.NAMES and position == 1:
        return Conv.of(eqn)
    if name == "gather" and position == 0:
        return Take.of(eqn)
    return None


def _decide(
    uses: list[Use], others: list[str], active: bool, decay: Any
) -> tuple[Mode, str]:
    unread = not uses and not others
    unpenalised = isinstance(decay, int)
    if not active:
        return "still", "outside the mask, or not a floating array"
    if unread and unpenalised:
        return "still", "not read by predict"
    if others or unread:
        names = ", ".join(sorted(set(others))) or "the penalty alone"
        return "materialised", f"read by {names}"
    if decay is None:
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


def _is_real(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating)


def _width(dtype: Any) -> int:
    return jnp.dtype(dtype).itemsize


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * _width(aval.dtype)
