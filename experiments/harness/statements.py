"""The verdicts of docs/paper.md: a row for each equation, statement, figure and table.

The page itself says what a row is of, in its first cell, and where the code is. The
last two cells, under VERDICTS and EXPERIMENTS, are written here from the claims.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness import parts, tables

if TYPE_CHECKING:
    from experiments.harness.report import Section

VERDICTS, EXPERIMENTS = "Verdicts", "Experiments, scale"
NUMBER = r"(?:\d+(?:\.\d+)?[a-d]?|[IVX]+|[A-D](?:\.\d+)?)(?!\w)"
PLACE = re.compile(
    r"\b(Eq|Prop|Lemma|Fact|Fig|Table|Sec|App)[a-z]*\.? "
    rf"({NUMBER}(?:(?:, | and |-){NUMBER})*)"
)
ROMAN = ("I", "II", "III")
Place = tuple[str, str]  # ("Prop", "11")


def places(source: str) -> set[Place]:
    """The numbered places of the paper that a text names.

    "Propositions 2, 9-11 and Lemma 8" names five; "Fig. 13a" names Fig. 13.
    """
    found = PLACE.findall(source)
    return {(kind, number) for kind, listed in found for number in _numbers(listed)}


def _numbers(listed: str) -> Iterator[str]:
    for item in re.split(", | and ", listed):
        first, _, last = (end.rstrip("abcd") for end in item.partition("-"))
        if not last:
            yield first
        elif first in ROMAN:
            yield from ROMAN[ROMAN.index(first) : ROMAN.index(last) + 1]
        else:
            yield from map(str, range(int(first), int(last) + 1))


def fill(text: str, sections: Sequence["Section"], folder: str) -> str:
    """A page whose tables with the columns of verdicts have them written anew.

    Args:
      sections: of the report.
      folder: of the report as seen from the page, "../results/".

    Raises: ValueError for a row of such a table whose first cell names no place.
    """

    def filled(cells: list[str]) -> list[str]:
        named = places(cells[0])
        if not named:
            raise ValueError(f"Received a row of {cells[0]!r}; begin with 'Fig. 1'.")
        return [*cells[:-2], *row(named, sections, folder)]

    columns = [VERDICTS, EXPERIMENTS]
    return tables.rewrite(
        text, lambda header: filled if header[-2:] == columns else None
    )


def row(named: set[Place], sections: Sequence["Section"], folder: str) -> list[str]:
    """The verdicts on these places, and the experiments that they come from."""
    own = {id(s): [c for c in s.claims if _is_of(named, c)] for s in sections}
    about = [s for s in sections if own[id(s)] or named & places(s.source)]
    links = [f"[{s.name}]({folder}index.md#{s.name}) {s.scale}" for s in about]
    verdicts = _verdicts([claim for s in about for claim in own[id(s)]])
    if not verdicts:
        checks = parts.verdicts(
            [c for s in about for c in s.claims if c["kind"] != "paper"]
        )
        verdicts = f"none of its own; of our checks {checks}" if checks else "-"
    return [verdicts, ", ".join(links) or "-"]


def _is_of(named: set[Place], claim: Mapping[str, Any]) -> bool:
    return claim["kind"] == "paper" and bool(named & places(claim["source"]))


def _verdicts(found: Sequence[Mapping[str, Any]]) -> str:
    """In a line: "3 hold; as printed: 1 contrary"."""
    printed = [c for c in found if c["source"].endswith("printed")]
    others = [c for c in found if not c["source"].endswith("printed")]
    pairs = ("", others), ("as printed: ", printed)
    return "; ".join(words + parts.verdicts(own) for words, own in pairs if own)
