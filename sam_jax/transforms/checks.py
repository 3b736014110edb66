"""Arguments of variants, refused in a line: the value, the values allowed, the fix."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from sam_jax.core import ascent

Check = Callable[[str, str, Any], None]


def check_rho(name: str, rho: Any) -> None:
    """rho must be a real number >= 0, a scalar array, or a schedule of the step."""
    if not callable(rho):
        ascent.check_radius(name, rho)


def check_count(
    name: str, argument: str, value: Any, *, optional: bool = False
) -> None:
    """A number of things is a Python int >= 1, since it decides what is compiled."""
    if optional and value is None:
        return
    if (
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and value > 0
    ):
        return
    raise ValueError(
        f"{name} received {argument}={value!r}; it must be a Python integer >= 1"
        + (" or None" if optional else "")
        + f". Inside optax.inject_hyperparams, list {argument!r} in static_args."
    )


def check_number(name: str, argument: str, value: Any) -> None:
    """A hyper-parameter that is a finite real number >= 0, or traced."""
    if isinstance(value, jax.core.Tracer):
        return
    if not 0 <= _as_float(value) < math.inf:
        raise ValueError(
            f"{name} received {argument}={value!r}; it must be a finite number >= 0."
        )


def check_optional_count(name: str, argument: str, value: Any) -> None:
    """A count, or None."""
    check_count(name, argument, value, optional=True)


def check_step_size(name: str, argument: str, value: Any) -> None:
    """The length of an ascent step, or None for rho."""
    if value is not None:
        check_number(name, argument, value)


def within(interval: str) -> Check:
    """The check for a number of an interval in the usual notation, such as "[0, 1)"."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def check(name: str, argument: str, value: Any) -> None:
        if isinstance(value, jax.core.Tracer):
            return
        number = _as_float(value)
        above = number >= low if interval[0] == "[" else number > low
        below = number <= high if interval[-1] == "]" else number < high
        if not (above and below):
            raise ValueError(
                f"{name} received {argument}={value!r}; it must be a number in "
                f"{interval}."
            )

    return check


def _as_float(value: Any) -> float:
    """A real scalar as a float; NaN, which is in no interval, for all else."""
    number = np.ndim(value) == 0 and not isinstance(value, str | bytes | None)
    return float(value) if number else math.nan


def check_direction(name: str, argument: str, value: Any) -> None:
    """A direction rule, or None."""
    if value is not None and not isinstance(value, optax.GradientTransformation):
        raise ValueError(
            f"{name} received {argument}={value!r}; it must be an optax transformation "
            "of the gradient, such as optax.trace(0.9), or None."
        )


def indices(what: str) -> Check:
    """The check for a sequence of integers >= 0, which may be empty.

    Args:
      what: they are, and an example.
    """

    def check(name: str, argument: str, value: Any) -> None:
        listed = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        if not (listed and all(_is_index(each) for each in value)):
            raise ValueError(
                f"{name} received {argument}={value!r}; give {what}, integers >= 0."
            )

    return check


def _is_index(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and value >= 0


# How the options of all variants are checked, by name.
CHECKS: dict[str, Check] = {
    "m": check_optional_count,
    "chunk": check_optional_count,
    "ascent_steps": check_count,
    "ascent_step_size": check_step_size,
    "eta": check_number,
    "alpha": check_number,
    "sigma": check_number,
    "decay": within("[0, 1)"),
    "theta": within("(0, 1]"),
    "gamma": within("[0, 1)"),
    "trace_weight": check_number,
    "slope_weight": check_number,
    "momentum": within("[0, 1)"),
    "fisher_weight": check_number,
    "quantile": within("[0, 1)"),
    "budget": check_number,
    "sparsity": within("[0, 1)"),
    "keep": within("(0, 1]"),
    "select": within("(0, 1]"),
    "focus": check_number,
    "strength": check_number,
    "threshold": within("(-inf, inf)"),
    "back_steps": check_count,
    "interpolation": within("(0, 1]"),
    "refresh": check_count,
    "temperature": within("(0, inf)"),
    "tail": indices("the numbers of classes, such as (7, 9)"),
    "counts": indices("the training examples of every class, such as (500, 50, 5)"),
    "ascent": check_direction,
}
# What a direction rule does not go with, and the values that are no choice.
ALONE = {"m": None, "ascent_steps": 1, "ascent_step_size": None}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Checks the options of a variant, each by its name."""
    for option, value in options.items():
        if option in CHECKS:
            CHECKS[option](name, option, value)
    if options.get("ascent") is None:
        return
    for option, default in ALONE.items():
        value = options.get(option, default)
        if value is not default and value != default:
            raise ValueError(
                f"{name} received {option}={value!r} with ascent=; its state belongs "
                f"to a single ascent step of the whole batch: leave {option} out, or "
                "ascent."
            )
