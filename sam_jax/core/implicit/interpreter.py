"""Walks a traced function, equation by equation, with a rule in place of evaluation.

The walk enters calls such as `jax.jit` (see `primitives`), so that compiled and plain
code look the same to a rule. Loops, branches and custom derivatives are handed to the
rule as one equation; a rule may walk their inside itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sam_jax.core.implicit import primitives
from sam_jax.ops.compat import Jaxpr, JaxprEqn, Literal

Key = tuple[int, ...]
Visit = Callable[[Key, JaxprEqn, list[Any]], tuple[Sequence[Any], dict[Key, Any]]]
Walked = tuple[list[Any], dict[Key, Any]]


def walk(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    args: Sequence[Any],
    visit: Visit,
    key: Key = (),
) -> Walked:
    """Runs a jaxpr on arrays, with `visit(key, eqn, inputs) -> (outputs, saved)`.

    The key of an equation is its index, after the keys of the calls that it stands in:
    two calls of the same function have equations of different keys. A region under
    `jax.checkpoint` is walked inside a `jax.checkpoint`.

    Args:
      key: of the equation whose jaxpr this is, such as a loop's.

    Returns: the outputs, and the union of everything that was saved.
    """
    return _walk(jaxpr, consts, args, visit, key, of_arrays=True)


def walk_abstract(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    args: Sequence[Any],
    visit: Visit,
    key: Key = (),
) -> Walked:
    """The same on values of any kind, such as facts about arrays."""
    return _walk(jaxpr, consts, args, visit, key, of_arrays=False)


def _walk(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    args: Sequence[Any],
    visit: Visit,
    key: Key,
    of_arrays: bool,
) -> Walked:
    """`walk` for the jaxpr of the call at `key`."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else env[variable]

    saved: dict[Key, Any] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        inputs, place = [read(v) for v in eqn.invars], (*key, index)
        call = primitives.opened(eqn)
        if call is None:
            outputs, new = visit(place, eqn, inputs)
        else:

            def run(*inputs, call=call, place=place):
                inside = (call.jaxpr, call.consts, inputs)
                return _walk(*inside, visit, place, of_arrays)

            outputs, new = (call.surround(run) if of_arrays else run)(*inputs)
        env.update(zip(eqn.outvars, outputs, strict=True))
        saved.update(new)
    return [read(v) for v in jaxpr.outvars], saved
