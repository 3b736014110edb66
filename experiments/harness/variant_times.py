"""What a step of each variant takes, in the tables of variants of the pages.

The first cell of a row names one variant or several, as code; the cell under TIME is
written here, from the benchmark `family`.
"""

import json
import pathlib
import re

from experiments.harness import tables

TIME = "Time"
FAMILY = pathlib.Path("benchmarks") / "family.json"


def fill(text: str, results: pathlib.Path) -> str:
    """A page whose tables with a column TIME say what steps take over plain ones; as it
    is where that was not measured.
    """
    if not (results / FAMILY).exists():
        return text
    rows = json.loads((results / FAMILY).read_text())["rows"]
    ratios = {row["figure"].split()[0]: row["ratio"] for row in rows}

    def by(header: tables.Cells):
        if TIME not in header:
            return None
        place = header.index(TIME)
        return lambda cells: [
            *cells[:place],
            words(re.findall(r"`(\w+)", cells[0]), ratios),
            *cells[place + 1 :],
        ]

    return tables.rewrite(text, by)


def words(names: list[str], ratios: dict[str, float]) -> str:
    """The ratio of one variant, 1.9 to 2.4 of several; "-" where none was measured."""
    found = sorted(ratios[name] for name in names if name in ratios)
    ends = [f"{ratio:.1f}" for ratio in (*found[:1], *found[-1:])]
    return " to ".join(dict.fromkeys(ends)) or "-"
