"""What a key of a run's configuration is: its meaning, its range, and kinds of values.

`keys` declares the keys themselves.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any


class Change(enum.Enum):
    """What another value of a key asks for."""

    PROGRAM = "another compiled training step"
    RUN = "another run, of the same programs"
    MEMBER = "the same, and runs that differ by it can be one fleet"
    RESUME = "nothing: a run may go on with it"


@dataclasses.dataclass(frozen=True)
class Key:
    """A declared key.

    default: in the base recipe, and in files saved before the key was there.
    meaning: what the value is, with its unit. allowed: the values, in words.
    convert: value -> value in its proper type; raises TypeError or ValueError for a
      value that is not allowed.
    since: the version that brought the key, if it was not there from the start.
    change: what another value asks for.
    unset: the value that leaves an option of a SAM variant, or of a network, at its own
      default; None if every value is one to set.
    """

    default: Any
    meaning: str
    allowed: str
    convert: Callable[[Any], Any]
    unset: Any = None
    since: str = ""
    change: Change = Change.PROGRAM


def run(key: Key) -> Key:
    """A key that no compiled program depends on."""
    return dataclasses.replace(key, change=Change.RUN)


def member(key: Key) -> Key:
    """A key whose value is an argument of the step, and may differ within a fleet."""
    return dataclasses.replace(key, change=Change.MEMBER)


def resume(key: Key) -> Key:
    """A key that does not decide what a run computes."""
    return dataclasses.replace(key, change=Change.RESUME)


def since(version: str, key: Key) -> Key:
    """A key that results of versions before this one do not know."""
    return dataclasses.replace(key, since=version)


def whole(
    default: int,
    low: int,
    meaning: str,
    unset: int | None = None,
    high: int | None = None,
) -> Key:
    """An integer, `low` or more, and `high` at most."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError
        if high is not None and value > high:
            raise ValueError
        return value

    allowed = f"an integer >= {low}" + ("" if high is None else f" and <= {high}")
    return Key(default, meaning, allowed, convert, unset)


def number(
    default: float, interval: str, meaning: str, unset: float | None = None
) -> Key:
    """A finite number of an interval in the usual notation, such as "[0, 1)"."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def convert(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below and math.isfinite(value)):
            raise ValueError
        return float(value)

    return Key(default, meaning, f"a number in {interval}", convert, unset)


def choice(default: str, names: tuple[str, ...], meaning: str) -> Key:
    """One of a few words."""

    def convert(value: Any) -> str:
        if value not in names:
            raise ValueError
        return value

    return Key(default, meaning, f"one of {', '.join(names)}", convert)


def switch(default: bool, meaning: str) -> Key:
    """True or False."""

    def convert(value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return Key(default, meaning, "True or False", convert)


def text(default: str, meaning: str) -> Key:
    """A string."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        return value

    return Key(default, meaning, "a string", convert)


def mapping(meaning: str) -> Key:
    """A dictionary of names and values that a configuration can hold; {} by default."""

    def convert(value: Any) -> dict[str, Any]:
        if hasattr(value, "to_dict"):
            value = value.to_dict()
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise TypeError
        return {name: _plain_value(part) for name, part in value.items()}

    allowed = (
        "a dictionary of names with numbers, strings, None, tuples or dictionaries"
    )
    return Key({}, meaning, allowed, convert)


def _plain_value(value: Any) -> Any:
    """A value of a mapping, lists as tuples; TypeError for what JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _plain_value(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_plain_value, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError


def several(default: tuple, item: type, meaning: str) -> Key:
    """A tuple of strings, or of integers >= 0."""
    described = "strings" if item is str else "integers >= 0"

    def convert(value: Any) -> tuple:
        if not isinstance(value, tuple | list):
            raise TypeError
        for element in value:
            if isinstance(element, bool) or not isinstance(element, item):
                raise TypeError
            if isinstance(element, int) and element < 0:
                raise ValueError
        return tuple(value)

    return Key(default, meaning, f"a tuple of {described}", convert)
