"""What the penalty is to each parameter: nothing, an L2 term, or something else.

For the term (lambda / 2) |w|^2, whose gradient is lambda w, no group needs a copy of w:
`perturbed_pass` has the algebra. Whether the gradient with respect to a parameter is
lambda times that parameter, with lambda the same for all entries and free of
parameters, is read off its jaxpr; so the penalty may be written in any of the usual
ways.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sam_jax.core.implicit import interpreter, primitives
from sam_jax.core.objective import Objective
from sam_jax.ops import compat
from sam_jax.ops.compat import JaxprEqn, Literal

Tree = Any


@dataclasses.dataclass(frozen=True)
class Unpenalised:
    """The penalty does not read the parameter."""


@dataclasses.dataclass(frozen=True)
class L2:
    """The penalty has the gradient factor * w: it is (factor / 2) |w|^2, plus what does
    not depend on w. factor: f[], the lambda of the equations.
    """

    factor: Any


@dataclasses.dataclass(frozen=True)
class Other:
    """The penalty reads the parameter in another way: its gradient takes a copy."""


Term = Unpenalised | L2 | Other


class Uniform(NamedTuple):
    """A fact: an array all of whose entries are `value`, f[], free of parameters."""

    value: Any


class Multiple(NamedTuple):
    """A fact: factor, f[], times parameter number `leaf`, entries in the same order."""

    leaf: int
    factor: Any


Fact = Uniform | Multiple
# From an equation and the facts about its inputs; None where nothing can be said.
Rule = Callable[[JaxprEqn, Sequence[Fact]], Fact | None]


def terms(objective: Objective, params: Tree) -> list[Term]:
    """What the penalty is to each leaf of params (arrays or their shapes)."""
    count = len(jax.tree.leaves(params))
    if objective.penalty is None:
        return [Unpenalised()] * count
    jaxpr = jax.make_jaxpr(objective.penalty_gradient)(params)
    facts, _ = interpreter.walk_abstract(
        jaxpr.jaxpr,
        [Uniform(c) if jnp.ndim(c) == 0 else None for c in jaxpr.consts],
        [Multiple(leaf, 1.0) for leaf in range(count)],
        _visit,
    )
    return [_term(leaf, fact) for leaf, fact in enumerate(facts)]


def _term(leaf: int, gradient: Any) -> Term:
    """From what is known of the penalty's gradient with respect to a leaf."""
    if isinstance(gradient, Multiple) and gradient.leaf == leaf:
        return L2(gradient.factor)
    value = gradient.value if isinstance(gradient, Uniform) else gradient
    return Unpenalised() if _is_zero(value) else Other()


def _is_zero(value: Any) -> bool:
    if value is None or isinstance(value, Multiple | jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(value) == 0))


def _visit(
    key: Any, eqn: JaxprEqn, inputs: list[Any]
) -> tuple[list[Fact | None], dict]:
    facts = [
        Uniform(x) if isinstance(v, Literal) else x
        for x, v in zip(inputs, eqn.invars, strict=True)
    ]
    known = all(fact is not None for fact in facts)
    fact = _conclude(eqn, facts) if known else None
    return [fact] * len(eqn.outvars), {}


def _conclude(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    view = primitives.view(eqn)
    if view is not None and view.keeps_order(eqn):
        return facts[0]
    rule = RULES.get(compat.name(eqn))
    return None if rule is None else rule(eqn, facts)


def _scaled(fact: Fact, factor: Any) -> Fact:
    if isinstance(fact, Uniform):
        return Uniform(fact.value * factor)
    return Multiple(fact.leaf, fact.factor * factor)


def _negative(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact:
    return _scaled(facts[0], -1.0)


def _product(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    first, second = facts
    if isinstance(first, Uniform):
        return _scaled(second, first.value)
    return _scaled(first, second.value) if isinstance(second, Uniform) else None


def _product_with_a_scalar(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    scalar = any(v.aval.shape == () for v in eqn.invars)
    return _product(eqn, facts) if scalar else None


def _quotient(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    first, second = facts
    if isinstance(second, Uniform):
        return _scaled(first, 1.0 / second.value)
    return None


def _same(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact:
    return facts[0]


def _first_power(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    return facts[0] if eqn.params["y"] == 1 else None


def _spread(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    return facts[0] if isinstance(facts[0], Uniform) else None


def _sum(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    first, second = facts
    if isinstance(first, Uniform):
        if isinstance(second, Uniform):
            return Uniform(first.value + second.value)
        return second if _is_zero(first.value) else None
    if isinstance(second, Uniform):
        return first if _is_zero(second.value) else None
    same = first.leaf == second.leaf
    return Multiple(first.leaf, first.factor + second.factor) if same else None


def _difference(eqn: JaxprEqn, facts: Sequence[Fact]) -> Fact | None:
    return _sum(eqn, (facts[0], _scaled(facts[1], -1.0)))


RULES: Mapping[str, Rule] = {
    "neg": _negative,
    "mul": _product,
    "dot_general": _product_with_a_scalar,
    "div": _quotient,
    "integer_pow": _first_power,
    "reshard": _same,  # of arrays on a mesh
    "broadcast_in_dim": _spread,
    "add": _sum,
    "add_any": _sum,
    "sub": _difference,
}
