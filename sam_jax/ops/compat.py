"""What sam_jax takes from inside jax, in one place: where versions differ, it is here.

Jaxprs and their equations come from `jax.extend.core`, which is not as stable as the
rest of jax; primitives and their rules from `jax.interpreters`; the axes over which an
array differs between devices from its abstract value.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax._src import distributed
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    jaxprs_in_params,
)
from jax.interpreters import ad, batching, mlir, partial_eval

__all__ = [
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "bilinear",
    "equations",
    "evaluate",
    "name",
    "parameters",
    "process_store",
    "type_of",
    "varying",
    "varying_axes",
    "without_unused",
]

# jax wraps a primitive written in its high-level interface, such as `jax.checkpoint`
# under the flag jax_remat3, in an equation "call_hi_primitive" with this parameter.
WRAPPED = "_prim"


def name(eqn: JaxprEqn) -> str:
    """What an equation's primitive is called; for a wrapped one, its class's name."""
    wrapped = eqn.params.get(WRAPPED)
    return eqn.primitive.name if wrapped is None else type(wrapped).__name__


def parameters(eqn: JaxprEqn) -> Mapping[str, Any]:
    """The parameters of an equation's primitive; for a wrapped one, its own, if any."""
    wrapped = eqn.params.get(WRAPPED)
    return eqn.params if wrapped is None else getattr(wrapped, "params", {})


def evaluate(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The ordinary outputs of an equation, custom derivatives included."""
    with eqn.ctx.manager:
        bound = eqn.primitive.get_bind_params(eqn.params)
        outputs = eqn.primitive.bind(*inputs, **bound)
    return outputs if eqn.primitive.multiple_results else [outputs]


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All equations of a jaxpr, at any depth."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def bilinear(
    name: str,
    value: Callable[..., jax.Array],
    abstract: Callable[..., Any],
    transposes: tuple[Callable, Callable],
    batch: Callable,
) -> Primitive:
    """A primitive of two arguments that is linear in each.

    Args:
      value: (x, y, **params) -> array, what it computes and is compiled to.
      abstract: the same of abstract values.
      transposes: of the first and of the second argument, as `ad.defbilinear` has them.
      batch: its batching rule.
    """
    primitive = Primitive(name)
    primitive.def_impl(value)
    primitive.def_abstract_eval(abstract)
    ad.defbilinear(primitive, *transposes)
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(value, multiple_results=False))
    return primitive


def without_unused(jaxpr: ClosedJaxpr) -> ClosedJaxpr:
    """The same function without the equations that none of its outputs needs."""
    used = [True] * len(jaxpr.jaxpr.outvars)
    inner, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, used, instantiate=True)
    return ClosedJaxpr(inner, jaxpr.consts)


def process_store() -> Any:
    """The store of keys and values that the processes of `jax.distributed` share."""
    return distributed.global_state.client


def type_of(value: Any) -> Any:
    """The abstract value of an array, or the one that is given: its shape, dtype, and
    how it lies on a mesh.
    """
    return value if isinstance(value, jax.core.ShapedArray) else jax.typeof(value)


def varying_axes(value: Any) -> frozenset[str]:
    """The axes of `jax.shard_map` over which an array or an abstract value differs."""
    return type_of(value).manual_axis_type.varying


def varying(value: jax.Array, axes: Any) -> jax.Array:
    """The same array, known to each device of these axes as its own copy."""
    missing = tuple(set(axes) - varying_axes(value))
    return jax.lax.pcast(value, missing, to="varying") if missing else value
