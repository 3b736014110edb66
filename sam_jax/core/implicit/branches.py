"""Branches of a network (`jax.lax.cond`, `jax.lax.switch`), kept as branches.

A site stands in one of the branches. Where another one is taken, the site's x and d are
zeros, and so is what the gradient of its weight gets from there. So a parameter is held
by x and d (gram); the L2 term of one would be lost with its branch: it is materialised.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from sam_jax.core.implicit.interpreter import Key
from sam_jax.ops import compat, layouts
from sam_jax.ops.compat import ClosedJaxpr, JaxprEqn


def of(eqn: JaxprEqn) -> tuple[ClosedJaxpr, ...]:
    """The branches of an equation, of its inputs but the first; () for any other."""
    return eqn.params["branches"] if compat.name(eqn) == "cond" else ()


def run(
    branches: Sequence[ClosedJaxpr],
    key: Key,
    inputs: Sequence[Any],
    walk: Callable[[ClosedJaxpr, Sequence[Any], Key], tuple[list[Any], dict]],
) -> tuple[list[Any], dict]:
    """Runs one of the branches, each walked in another way.

    Args:
      key: of the equation; a branch has its number behind it.
      inputs: the number of the branch to take, and its inputs.
      walk: (branch, inputs, key) -> (outputs, saved).

    Returns: the outputs, and what was saved in all branches, zeros in those not taken.
    """
    index, *operands = inputs

    def one(number: int) -> Callable:
        return lambda *x: walk(branches[number], x, (*key, number))

    types: dict = {}
    for number in range(len(branches)):
        types.update(layouts.types_of_results(one(number), *operands)[1])

    def whole(number: int) -> Callable:
        def function(*operands: Any) -> tuple[list[Any], dict]:
            outputs, saved = one(number)(*operands)
            missing = {name: t for name, t in types.items() if name not in saved}
            return outputs, {**jax.tree.map(layouts.zeros, missing), **saved}

        return function

    return jax.lax.switch(index, [whole(i) for i in range(len(branches))], *operands)
