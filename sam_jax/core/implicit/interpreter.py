"""Walks a traced function, equation by equation, with a rule in place of evaluation.

Calls are seen through: what `jax.jit` wrapped reads like what it did not. A region
under `jax.checkpoint` is walked inside a `jax.checkpoint` of its own, so that what the
author wanted recomputed still is. Loops, branches and custom derivatives are handed to
the rule as one equation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

CALLS = ("jit", "pjit", "closed_call", "core_call")
REMAT = "remat2"

Key = tuple[int, ...]
Visit = Callable[[Key, JaxprEqn, list[Any]], tuple[Sequence[Any], dict[Key, Any]]]


def walk(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    args: Sequence[Any],
    visit: Visit,
    key: Key = (),
) -> tuple[list[Any], dict[Key, Any]]:
    """Runs a jaxpr on arrays, with `visit(key, eqn, inputs) -> (outputs, saved)`.

    Args:
      key: the place of this jaxpr. An equation's own key appends its index, so that
        keys tell apart two calls of the same function.

    Returns: the outputs, and the union of everything that was saved.
    """
    return _walk(jaxpr, consts, args, visit, key, _checkpointed)


def walk_abstract(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], visit: Visit
) -> tuple[list[Any], dict[Key, Any]]:
    """The same on values of any kind, such as facts about arrays."""
    return _walk(jaxpr, consts, args, visit, (), lambda run, eqn: run)


def evaluate(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The ordinary outputs of an equation, custom derivatives included."""
    with eqn.ctx.manager:
        bound = eqn.primitive.get_bind_params(eqn.params)
        outputs = eqn.primitive.bind(*inputs, **bound)
    return outputs if eqn.primitive.multiple_results else [outputs]


def _walk(jaxpr, consts, args, visit, key, enter):
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else env[variable]

    saved: dict[Key, Any] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        inputs, place = [read(v) for v in eqn.invars], (*key, index)
        inner = _inner(eqn)
        if inner is None:
            outputs, new = visit(place, eqn, inputs)
        else:

            def run(*inputs, inner=inner, place=place):
                called, constants = inner
                return _walk(called, constants, inputs, visit, place, enter)

            if eqn.primitive.name == REMAT:
                run = enter(run, eqn)
            outputs, new = run(*inputs)
        env.update(zip(eqn.outvars, outputs, strict=True))
        saved.update(new)
    return [read(v) for v in jaxpr.outvars], saved


def _inner(eqn: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]] | None:
    """The jaxpr and constants of a call that is seen through, else None."""
    if eqn.primitive.name not in (*CALLS, REMAT):
        return None
    inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if isinstance(inner, ClosedJaxpr):
        return inner.jaxpr, inner.consts
    return inner, ()


def _checkpointed(run: Callable, eqn: JaxprEqn) -> Callable:
    options = {k: eqn.params[k] for k in ("prevent_cse", "policy")}
    return jax.checkpoint(run, **options)
