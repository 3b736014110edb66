"""What a compiled program says of itself: its collective operations."""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
LINE = re.compile(rf"= (?P<result>\(.*?\)|\S+) (?P<kind>{KINDS})(-start)?\(")
ARRAY = re.compile(r"(?P<type>[a-z]+)(?P<bits>\d*)[a-z0-9]*\[(?P<shape>[\d,]*)\]")


class Collective(NamedTuple):
    """kind: such as "all-reduce". nbytes: of the arrays it makes on one device. line:
    of the program's text, which names the devices.
    """

    kind: str
    nbytes: int
    line: str


def collectives(executable: Any) -> list[Collective]:
    """Every collective operation of a compiled function (`.lower(...).compile()`).

    XLA joins small ones of a kind: count bytes, not operations.
    """
    return list(_found(executable.as_text()))


def _found(text: str) -> Iterator[Collective]:
    for line in text.splitlines():
        if (match := LINE.search(line)) is not None:
            arrays = ARRAY.finditer(match["result"])
            nbytes = sum(map(_bytes, arrays))
            yield Collective(match["kind"], nbytes, line.strip())


def _bytes(array: re.Match[str]) -> int:
    """Of an array of a program's text, such as f32[8,4]."""
    entries = math.prod(int(n) for n in array["shape"].split(",") if n)
    return entries * (int(array["bits"]) // 8 if array["bits"] else 1)
