"""Checks of user input that the factories share.

Each raises ValueError with the value received and the values allowed.
"""

import importlib
import math
import numbers
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Number = float | int  # an int is a float to type checkers, but not at run time


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """known[name]; otherwise an error that lists the known names of this kind."""
    if name not in known:
        raise ValueError(f"Unknown {kind} {name!r}; known: {', '.join(known)}.")
    return known[name]


def imported(kind: str, name: str) -> Any:
    """The attribute that "package.module:attribute" names.

    Raises: ValueError of one line if the module cannot be imported, or lacks it.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module of the user's may raise anything
        raise ValueError(
            f"The {kind} {name!r} cannot be imported ({type(error).__name__}: {error})"
            "; give package.module:attribute, the module on Python's path."
        ) from error
    return found


def options(owner: str, received: Collection[str], allowed: Collection[str]) -> None:
    """Refuses options that `owner` does not have, and lists those it has."""
    unknown = [option for option in received if option not in allowed]
    if unknown:
        raise ValueError(
            f"{owner} has no option {', '.join(map(repr, unknown))}; "
            f"its options: {', '.join(allowed) or 'none'}."
        )


def integer(name: str, value: Any, minimum: int) -> int:
    """An integer >= minimum; NumPy's count, bools and whole floats do not."""
    if (
        not isinstance(value, numbers.Integral)
        or isinstance(value, bool)
        or value < minimum
    ):
        raise ValueError(f"Received {name}={value!r}; give an integer >= {minimum}.")
    return int(value)


def number(
    name: str, value: Any, low: Number = -math.inf, high: Number = math.inf
) -> float:
    """A finite real number in [low, high]; NaN is in no interval."""
    if (
        not isinstance(value, numbers.Real)
        or not math.isfinite(value)
        or not low <= float(value) <= high
    ):
        raise ValueError(
            f"Received {name}={value!r}; give a finite number in [{low:g}, {high:g}]."
        )
    return float(value)


def float64(what: str) -> None:
    """Refuses to run in float32, whose rounding is coarser than what is computed."""
    import jax  # here, so that reading flags does not wait for it

    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{what} needs float64, and JAX is in float32 mode: call "
            'jax.config.update("jax_enable_x64", True) first, or set the environment '
            "variable JAX_ENABLE_X64=1."
        )
