"""Products with a weight that is made of several parameters, term by term.

A network may make a weight of others before it uses it, as low-rank adaptation does
(LoRA, Hu et al. 2022): V = W + s B A. Each of W, B and A enters x V linearly, but none
is the weight of a site. So the products are multiplied out,

    x (W + s B A) = x W + s (x B) A,

which is the same network up to rounding, with three sites. Weights are matrices here,
made by sums, differences, products, transposes and multiples of parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sam_jax.core.implicit import interpreter, primitives
from sam_jax.core.implicit.interpreter import Key
from sam_jax.core.implicit.loops import Loop, run
from sam_jax.ops import compat
from sam_jax.ops.compat import ClosedJaxpr, JaxprEqn

SPREAD = "broadcast_in_dim"
MOST_TERMS = 8  # of a weight; beyond, it is left as it is


class Term(NamedTuple):
    """scale * factors[0] @ factors[1] @ ...; scale: f[], or None for 1."""

    scale: Any
    factors: tuple[jax.Array, ...]


class Weight(NamedTuple):
    """A value made of parameters alone. terms: what it is the sum of, for a matrix."""

    value: jax.Array
    terms: tuple[Term, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether it is made of more than one matrix."""
        single = len(self.terms) == 1 and len(self.terms[0].factors) == 1
        return bool(self.terms) and not (single and self.terms[0].scale is None)


class Uniform(NamedTuple):
    """An array all of whose entries are `scalar`."""

    value: jax.Array
    scalar: jax.Array


def rewrite(jaxpr: ClosedJaxpr, count: int) -> ClosedJaxpr:
    """The same function with products multiplied out, if there are any such.

    Args:
      count: how many of the first inputs are parameters.
    """
    if not _has_made_weights(jaxpr, count):
        return jaxpr

    def function(*inputs: jax.Array) -> list[jax.Array]:
        known = [weight(x) if i < count else x for i, x in enumerate(inputs)]
        outputs, _ = interpreter.walk(jaxpr.jaxpr, jaxpr.consts, known, _visit)
        return _plain(outputs)

    return compat.without_unused(jax.make_jaxpr(function)(*jaxpr.in_avals))


def weight(value: jax.Array) -> Any:
    """A parameter, or a view of one."""
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    return Weight(value, _itself(value)) if floating else value


def _itself(value: jax.Array) -> tuple[Term, ...]:
    return (Term(None, (value,)),) if value.ndim == 2 else ()


def _plain(values: Sequence[Any]) -> list[Any]:
    return [x.value if isinstance(x, Weight | Uniform) else x for x in values]


def _has_made_weights(jaxpr: ClosedJaxpr, count: int) -> bool:
    """Whether a matrix is made of parameters anywhere."""
    found = []

    def walk(jaxpr: ClosedJaxpr, inputs: Sequence[bool], key: Key) -> None:
        consts = [False] * len(jaxpr.consts)
        interpreter.walk_abstract(jaxpr.jaxpr, consts, inputs, visit, key)

    def visit(key: Key, eqn: JaxprEqn, inputs: list[Any]) -> tuple[list[bool], dict]:
        """Which outputs are matrices made of parameters, or numbers spread out."""
        known = [x is True for x in inputs]
        nothing = [False] * len(eqn.outvars)
        loop = Loop.of(eqn)
        if loop is not None and any(known):
            walk(loop.body, known, key)
            return nothing, {}
        if primitives.view(eqn) is not None:
            return known[:1], {}
        name = compat.name(eqn)
        shapes: list[Any] = [getattr(v.aval, "shape", None) for v in eqn.invars]
        plain = all(k or shape == () for k, shape in zip(known, shapes, strict=True))
        if name not in RULES or not plain or not (any(known) or name == SPREAD):
            return nothing, {}
        if name == SPREAD:
            return [shapes == [()]], {}
        found.append(name)
        return [True], {}

    walk(jaxpr, [i < count for i in range(len(jaxpr.in_avals))], ())
    return bool(found)


def _visit(key: Key, eqn: JaxprEqn, inputs: list[Any]) -> tuple[Sequence[Any], dict]:
    loop = Loop.of(eqn)
    if loop is not None and any(isinstance(x, Weight) for x in inputs):
        return _loop(loop, key, inputs), {}
    rule = RULES.get(compat.name(eqn))
    out = None if rule is None else rule(eqn, inputs)
    if out is not None:
        return [out], {}
    outputs = compat.evaluate(eqn, _plain(inputs))
    if primitives.view(eqn) is not None and isinstance(inputs[0], Weight):
        made = inputs[0].is_made
        return [Weight(outputs[0]) if made else weight(outputs[0])], {}
    return outputs, {}


def _loop(loop: Loop, key: Key, inputs: list[Any]) -> list[Any]:
    """A loop with its body rewritten; a slice of a weight is one in there."""
    consts, _, slices = loop.inputs(inputs)
    are_weights = [isinstance(x, Weight) for x in slices]

    def body(inside: Sequence[Any], entries: Any) -> tuple[list[Any], tuple]:
        _, carry, slices = loop.inputs(inside)
        own = [
            weight(x) if known else x
            for x, known in zip(slices, are_weights, strict=True)
        ]
        values = [*consts, *carry, *own]
        inner = loop.body
        outputs, _ = interpreter.walk(inner.jaxpr, inner.consts, values, _visit, key)
        return _plain(outputs), ()

    outputs, _ = run(loop, key, _plain(inputs), {}, body)
    return outputs


def _evaluate(eqn: JaxprEqn, inputs: Sequence[Any]) -> jax.Array:
    return compat.evaluate(eqn, _plain(inputs))[0]


def _sum(sign: float | None) -> Callable:
    def rule(eqn: JaxprEqn, inputs: Sequence[Any]) -> Weight | None:
        first, second = inputs
        if not all(isinstance(x, Weight) and x.terms for x in inputs):
            return None
        if first.value.shape != second.value.shape:
            return None
        terms = (*first.terms, *(_scaled(term, sign) for term in second.terms))
        return Weight(_evaluate(eqn, inputs), terms if len(terms) <= MOST_TERMS else ())

    return rule


def _scaled(term: Term, scale: Any) -> Term:
    if scale is None:
        return term
    return term._replace(scale=scale if term.scale is None else term.scale * scale)


def _multiple(eqn: JaxprEqn, inputs: Sequence[Any]) -> Weight | None:
    """A matrix times a number, or over one."""
    divided = compat.name(eqn) == "div"
    pairs = [(inputs[0], inputs[1])] + ([] if divided else [(inputs[1], inputs[0])])
    for matrix, other in pairs:
        if not (isinstance(matrix, Weight) and matrix.terms):
            continue
        number = other.scalar if isinstance(other, Uniform) else _plain([other])[0]
        if jnp.ndim(number) > 0:
            continue
        number = 1 / number if divided else number
        terms = tuple(_scaled(term, number) for term in matrix.terms)
        return Weight(_evaluate(eqn, inputs), terms)
    return None


def _negative(eqn: JaxprEqn, inputs: Sequence[Any]) -> Weight | None:
    (matrix,) = inputs
    if not (isinstance(matrix, Weight) and matrix.terms):
        return None
    terms = tuple(_scaled(term, -1.0) for term in matrix.terms)
    return Weight(_evaluate(eqn, inputs), terms)


def _spread(eqn: JaxprEqn, inputs: Sequence[Any]) -> Uniform | None:
    (value,) = _plain(inputs[:1])
    if jnp.ndim(value) > 0 or len(inputs) > 1:
        return None
    return Uniform(_evaluate(eqn, inputs), value)


def _transposed(eqn: JaxprEqn, inputs: Sequence[Any]) -> Weight | None:
    (matrix,) = inputs
    if not (isinstance(matrix, Weight) and matrix.is_made):
        return None
    if tuple(eqn.params["permutation"]) != (1, 0):
        return None
    terms = tuple(
        term._replace(factors=tuple(f.T for f in reversed(term.factors)))
        for term in matrix.terms
    )
    return Weight(_evaluate(eqn, inputs), terms)


def _product(eqn: JaxprEqn, inputs: Sequence[Any]) -> Any:
    """Of two weights, another weight; of an array and a weight, multiplied out."""
    contracted, blocks = eqn.params["dimension_numbers"]
    if blocks[0] or len(contracted[0]) != 1:
        return None
    are_weights = [isinstance(x, Weight) and bool(x.terms) for x in inputs]
    if all(are_weights):
        first, second = (
            _oriented(x.terms, axes[0] == last)
            for x, axes, last in zip(inputs, contracted, (1, 0), strict=True)
        )
        made = tuple(
            _scaled(Term(a.scale, (*a.factors, *b.factors)), b.scale)
            for a in first
            for b in second
        )
        return Weight(_evaluate(eqn, inputs), made if len(made) <= MOST_TERMS else ())
    for side in (0, 1):
        known, other = inputs[side], inputs[1 - side]
        if are_weights[side] and known.is_made and not isinstance(other, Weight):
            terms = _oriented(known.terms, contracted[side][0] == 0)
            (x,) = _plain([other])
            y = _multiplied_out(eqn, x, contracted[1 - side][0], terms)
            return y if side == 1 else jnp.moveaxis(y, -1, 0)
    return None


def _oriented(terms: Sequence[Term], as_it_is: bool) -> Sequence[Term]:
    if as_it_is:
        return terms
    return [
        term._replace(factors=tuple(f.T for f in reversed(term.factors)))
        for term in terms
    ]


def _multiplied_out(
    eqn: JaxprEqn, x: jax.Array, axis: int, terms: Sequence[Term]
) -> jax.Array:
    """x V over an axis of x and the first of V, one product after another."""
    options = {
        "precision": eqn.params["precision"],
        "preferred_element_type": eqn.params["preferred_element_type"],
    }
    total = None
    for term in terms:
        y, over = x, axis
        for factor in term.factors:
            y = lax.dot_general(y, factor, (((over,), (0,)), ((), ())), **options)
            over = y.ndim - 1
        if term.scale is not None:
            y = y * jnp.asarray(term.scale, y.dtype)
        total = y if total is None else total + y
    assert total is not None
    return total


# (equation, inputs) -> what is known of its output; None where nothing is.
RULES: Mapping[str, Callable[[JaxprEqn, Sequence[Any]], Any]] = {
    "add": _sum(None),
    "sub": _sum(-1.0),
    "neg": _negative,
    "mul": _multiple,
    "div": _multiple,
    SPREAD: _spread,
    "transpose": _transposed,
    "dot_general": _product,
}
