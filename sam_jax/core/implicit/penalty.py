"""Which parameters the penalty treats as an L2 term.

For the term (lambda / 2) |w|^2, whose gradient is lambda w, no group needs a copy of w:

    penalty(w + delta) = penalty(w) + lambda <delta, w> + constant(delta).

Whether the gradient with respect to a parameter is lambda times that parameter, with
lambda the same for all entries and free of parameters, is read off its jaxpr; so the
penalty may be written in any of the usual ways.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from sam_jax.core.implicit import interpreter

Tree = Any

# Primitives that keep all entries in order.
SAME = frozenset(("convert_element_type", "copy", "expand_dims", "reshape", "squeeze"))


class Uniform(NamedTuple):
    """An array all of whose entries are `value`, f[], which depends on no parameter."""

    value: Any


class Multiple(NamedTuple):
    """factor, f[], times parameter number `leaf`, entries in the same order."""

    leaf: int
    factor: Any


Fact = Uniform | Multiple | None


def decays(penalty_gradient: Callable[[Tree], Tree], params: Tree) -> list[Any]:
    """For each leaf w of params: lambda, f[], where the gradient is lambda w.

    The Python number 0 where the penalty does not read w; None where it is of another
    kind.
    """
    jaxpr = jax.make_jaxpr(penalty_gradient)(params)
    leaves = range(len(jaxpr.jaxpr.invars))
    facts, _ = interpreter.walk_abstract(
        jaxpr.jaxpr,
        [Uniform(c) if jnp.ndim(c) == 0 else None for c in jaxpr.consts],
        [Multiple(leaf, 1.0) for leaf in leaves],
        _visit,
    )
    return [_decay(leaf, fact) for leaf, fact in zip(leaves, facts, strict=True)]


def _decay(leaf: int, fact: Any) -> Any:
    if isinstance(fact, Multiple) and fact.leaf == leaf:
        return fact.factor
    value = fact.value if isinstance(fact, Uniform) else fact
    return 0 if _is_zero(value) else None


def _is_zero(value: Any) -> bool:
    if value is None or isinstance(value, jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(value) == 0))


def _visit(key: Any, eqn: JaxprEqn, inputs: list[Any]) -> tuple[list[Fact], dict]:
    facts = [
        Uniform(x) if isinstance(v, Literal) else x
        for x, v in zip(inputs, eqn.invars, strict=True)
    ]
    known = all(fact is not None for fact in facts)
    fact = _conclude(eqn, facts) if known else None
    return [fact] * len(eqn.outvars), {}


def _conclude(eqn: JaxprEqn, facts: Sequence[Any]) -> Fact:
    """The fact about an equation's output, from those about its inputs."""
    name, first, second = eqn.primitive.name, facts[0], facts[-1]
    if name in SAME or (name == "integer_pow" and eqn.params["y"] == 1):
        return first
    if name == "transpose" and eqn.params["permutation"] == (0,):
        return first
    if name == "broadcast_in_dim":
        return first if isinstance(first, Uniform) else None
    if name == "neg":
        return _times(first, -1.0)
    if name == "mul" or (name == "dot_general" and _is_scaling(eqn)):
        if isinstance(first, Uniform):
            return _times(second, first.value)
        return _times(first, second.value) if isinstance(second, Uniform) else None
    if name == "div" and isinstance(second, Uniform):
        return _times(first, 1.0 / second.value)
    if name in ("add", "add_any"):
        return _plus(first, second)
    if name == "sub":
        return _plus(first, _times(second, -1.0))
    return None


def _is_scaling(eqn: JaxprEqn) -> bool:
    """Whether a dot_general is a product with a scalar."""
    return any(v.aval.shape == () for v in eqn.invars)


def _times(fact: Any, factor: Any) -> Fact:
    if isinstance(fact, Uniform):
        return Uniform(fact.value * factor)
    return Multiple(fact.leaf, fact.factor * factor)


def _plus(first: Any, second: Any) -> Fact:
    if isinstance(first, Uniform) and isinstance(second, Uniform):
        return Uniform(first.value + second.value)
    if isinstance(first, Multiple) and isinstance(second, Multiple):
        same = first.leaf == second.leaf
        return Multiple(first.leaf, first.factor + second.factor) if same else None
    multiple, uniform = sorted((first, second), key=lambda f: isinstance(f, Uniform))
    return multiple if _is_zero(uniform.value) else None
