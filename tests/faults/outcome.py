"""What a suite of faults has found."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """fault: what was done. tries: how often. note: a figure worth knowing.

    lost: what should not have been, in words.
    """

    fault: str
    tries: int
    lost: list[str]
    note: str = ""
