"""The one place that knows that convolutions in compiled loops are slow on CPU.

XLA's CPU backend runs a convolution inside `lax.scan`, `fori_loop`, `map` or `cond` 35
to 40 times slower than outside (jax 0.10.2). So on CPU a loop whose body convolves is
written out, or is a Python loop around a compiled step, and whether a step ascends is
decided in Python between two compiled steps. On accelerators, and for dense code, loops
and branches are compiled.
"""

from collections.abc import Callable
from typing import Any

import jax

from sam_jax.ops import compat, convolution


def repeat(count: int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """carry <- body(i, carry) for i in range(count): written out on CPU."""
    if jax.default_backend() != "cpu":
        return jax.lax.fori_loop(0, count, body, carry)
    for i in range(count):
        carry = body(i, carry)
    return carry


def are_slow_with(function: Callable, *args: Any) -> bool:
    """Whether a compiled loop around function(*args) would be slow on this backend."""
    return jax.default_backend() == "cpu" and _convolves(function, *args)


def _convolves(function: Callable, *args: Any) -> bool:
    """Whether a function contains a convolution, at any depth."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return any(e.primitive.name in convolution.NAMES for e in compat.equations(jaxpr))
