"""Where and in which form a network uses each parameter, from a walk of its jaxpr.

A parameter is followed through views (see `primitives`), into `loops` and `branches`,
to the sites that it is the weight of. Its uses go together if all are of one matrix M,
or of M and of its transpose, as a tied embedding is used: looked up, E[ids], and as the
head, x E^T. In the factors of M's gradient the transposed use x M^T changes sides,

    y = x M:    M has the gradient X^T D,
    y = x M^T:  M has the gradient D^T X.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from sam_jax.core.implicit import branches, interpreter, primitives
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.loops import Around, Loop
from sam_jax.core.implicit.sites import Dot, Site, Take
from sam_jax.ops import compat
from sam_jax.ops.compat import ClosedJaxpr, JaxprEqn

Axes = tuple[int, ...]


class Parameter(NamedTuple):
    """What the walk knows of a value: parameter number `leaf`, seen through `steps`,
    the views that were taken of it.

    axes: which axis of the parameter each of its axes is, -1 for one of size 1; None
      if axes were merged, divided or cast to another order of entries.
    sliced: the loops that slice it.
    """

    leaf: int
    steps: tuple[str, ...]
    axes: Axes | None
    sliced: tuple[Key, ...] = ()


class Use(NamedTuple):
    """A parameter read at the site of equation `key`, inside the loops `around`.

    form: two uses of equal forms have the same matrix M. turned: whether this one has
    the transpose of the matrix of the parameter's first use. branched: whether it is in
    a branch, which may not be taken.
    """

    key: Key
    site: Site
    form: Any
    around: tuple[Around, ...] = ()
    turned: bool = False
    branched: bool = False

    @property
    def repeats(self) -> int:
        """How often the site runs."""
        return math.prod(a.length for a in self.around)

    @property
    def layers(self) -> int:
        """How many weights of their own the loops make of the parameter."""
        return math.prod(a.length for a in self.around if a.sliced)

    @property
    def visits(self) -> int:
        """How often it runs with the same weight."""
        return self.repeats // self.layers

    @property
    def positions(self) -> int:
        """T, over all runs with the same weight."""
        return self.site.positions * self.visits

    @property
    def loops(self) -> tuple[Key, ...]:
        """The loops around it."""
        return tuple(a.key for a in self.around)

    @property
    def slicing(self) -> tuple[Key, ...]:
        """The loops that slice the weight."""
        return tuple(a.key for a in self.around if a.sliced)


class Found(NamedTuple):
    """Of one parameter. sites: its uses at sites. others: who else reads it."""

    sites: list[Use]
    others: list[str]


def find(jaxpr: ClosedJaxpr, shapes: Sequence[tuple[int, ...]]) -> list[Found]:
    """For each of the first inputs, of these shapes: its uses."""
    search = _Search([Found([], []) for _ in shapes])
    inputs: list[Parameter | None] = [None] * len(jaxpr.jaxpr.invars)
    inputs[: len(shapes)] = [
        Parameter(i, (), tuple(-1 if n == 1 else a for a, n in enumerate(shape)))
        for i, shape in enumerate(shapes)
    ]
    outputs = search.walk(jaxpr, inputs, (), ())
    search.read_by("the outputs", outputs)
    return search.found


class _Search:
    """The walk, and what it found so far."""

    def __init__(self, found: list[Found]):
        self.found = found
        self.conditions: list[Key] = []  # those that have been entered

    def read_by(self, name: str, values: Sequence[Any]) -> None:
        for value in values:
            if isinstance(value, Parameter):
                self.found[value.leaf].others.append(name)

    def walk(
        self,
        jaxpr: ClosedJaxpr,
        inputs: Sequence[Any],
        key: Key,
        around: tuple[tuple[Key, int], ...],
    ) -> list[Any]:
        """What is known of the outputs of a jaxpr inside of some loops."""

        def visit(key: Key, eqn: JaxprEqn, inputs: list[Any]) -> tuple[list[Any], dict]:
            read = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Parameter)]
            nothing: list[Any] = [None] * len(eqn.outvars)
            if not read:
                return nothing, {}
            loop = Loop.of(eqn)
            if loop is not None:
                self.enter(loop, key, inputs, around)
                return nothing, {}
            if branches.of(eqn):
                self.branch(branches.of(eqn), key, inputs, around)
                return nothing, {}
            position, seen = read[0]
            if len(read) == 1:
                if primitives.view(eqn) is not None:
                    return [_viewed(seen, eqn)], {}
                site = primitives.site(eqn, position)
                if site is not None:
                    loops = tuple(Around(k, n, k in seen.sliced) for k, n in around)
                    branched = any(key[: len(c)] == c for c in self.conditions)
                    form = _form(seen, site)
                    use = Use(key, site, form, loops, branched=branched)
                    self.found[seen.leaf].sites.append(use)
                    return nothing, {}
            self.read_by(compat.name(eqn), [seen for _, seen in read])
            return nothing, {}

        consts = [None] * len(jaxpr.consts)
        outputs, _ = interpreter.walk_abstract(jaxpr.jaxpr, consts, inputs, visit, key)
        return outputs

    def enter(
        self,
        loop: Loop,
        key: Key,
        inputs: Sequence[Any],
        around: tuple[tuple[Key, int], ...],
    ) -> None:
        """Walks the body of a loop."""
        consts, carry, slices = loop.inputs(inputs)
        self.read_by("the carry of a loop", carry)
        slices = [_sliced(x, key) if isinstance(x, Parameter) else None for x in slices]
        inside = [*consts, *[None] * loop.carry, *slices]
        outputs = self.walk(loop.body, inside, key, (*around, (key, loop.length)))
        self.read_by("the results of a loop", outputs)

    def branch(
        self,
        jaxprs: Sequence[ClosedJaxpr],
        key: Key,
        inputs: Sequence[Any],
        around: tuple[tuple[Key, int], ...],
    ) -> None:
        """Walks all branches of a condition."""
        self.read_by("the choice of a branch", inputs[:1])
        self.conditions.append(key)
        for number, jaxpr in enumerate(jaxprs):
            outputs = self.walk(jaxpr, inputs[1:], (*key, number), around)
            self.read_by("the results of a branch", outputs)


def aligned(sites: Sequence[Use]) -> tuple[Use, ...]:
    """The uses of a parameter, marked as turned or not; none if they do not match.

    The matrix is that of a lookup, if there is one, else that of the first use.
    """
    first = next((u for u in sites if isinstance(u.site, Take)), sites[0])
    turned = []
    for use in sites:
        if use.slicing != first.slicing:
            return ()
        if use.form == first.form:
            turned.append(use)
        elif use.form == _transposed(first.form) and isinstance(use.site, Dot):
            turned.append(use._replace(turned=True))
        else:
            return ()
    return (first, *(use for use in turned if use.key != first.key))


class Form(NamedTuple):
    """M by the axes of the parameter: those of its blocks, inputs and outputs."""

    blocks: Axes
    inputs: Axes
    outputs: Axes


def _transposed(form: Any) -> Any:
    """The form of M^T; None where there is none."""
    if isinstance(form, Form) and not form.blocks:
        return Form((), form.outputs, form.inputs)
    return None


def _form(seen: Parameter, site: Site) -> Any:
    if seen.axes is None or site.roles is None:
        return site.layout, seen.steps
    real = [tuple(seen.axes[i] for i in part) for part in site.roles]
    return Form(*(tuple(a for a in part if a >= 0) for part in real))


def _viewed(seen: Parameter, eqn: JaxprEqn) -> Parameter:
    """A parameter through one more view."""
    steps = (*seen.steps, f"{compat.name(eqn)}{eqn.params}")
    axes = seen.axes
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if axes is None:
        return seen._replace(steps=steps)
    if compat.name(eqn) == "transpose":
        axes = tuple(axes[i] for i in eqn.params["permutation"])
    elif before != after:
        axes = _through_reshape(axes, before, after)
    return seen._replace(steps=steps, axes=axes)


def _through_reshape(
    axes: Axes, before: tuple[int, ...], after: tuple[int, ...]
) -> Axes | None:
    """The axes after a reshape that adds and removes axes of size 1; None for others"""
    large = [a for a, n in zip(axes, before, strict=True) if n != 1]
    if [n for n in before if n != 1] != [n for n in after if n != 1]:
        return None
    rest = iter(large)
    return tuple(-1 if n == 1 else next(rest) for n in after)


def _sliced(seen: Parameter, key: Key) -> Parameter:
    """One slice of a parameter along its first axis, as a loop takes it."""
    return Parameter(
        seen.leaf,
        (*seen.steps, f"slice{key}"),
        None if seen.axes is None else seen.axes[1:],
        (*seen.sliced, key),
    )
