"""Single equations of a jaxpr: what they are called, and their values."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

# JAX wraps a primitive written in its high-level interface, such as `jax.checkpoint`
# under the flag jax_remat3, in an equation "call_hi_primitive" with this parameter.
WRAPPED = "_prim"


def name(eqn: JaxprEqn) -> str:
    """What the primitive is called; for a wrapped one, the name of its class."""
    wrapped = eqn.params.get(WRAPPED)
    return eqn.primitive.name if wrapped is None else type(wrapped).__name__


def parameters(eqn: JaxprEqn) -> Mapping[str, Any]:
    """The parameters of the primitive; for a wrapped one, its own."""
    wrapped = eqn.params.get(WRAPPED)
    return eqn.params if wrapped is None else wrapped.params


def evaluate(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The ordinary outputs of an equation, custom derivatives included."""
    with eqn.ctx.manager:
        bound = eqn.primitive.get_bind_params(eqn.params)
        outputs = eqn.primitive.bind(*inputs, **bound)
    return outputs if eqn.primitive.multiple_results else [outputs]


def are_real(variables: Sequence[Any]) -> bool:
    """Whether all inputs or outputs of an equation are real floating arrays."""
    return all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in variables)
