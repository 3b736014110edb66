"""What was measured of each variant, in the tables of variants of the pages.

The first cell of a row names one variant or several, as code; the cells under HEADERS
are written here.
"""

import json
import pathlib
import re
from collections.abc import Callable, Mapping

from experiments.harness import equal_cost, execution, tables

TIME = "Time"
FAMILY = pathlib.Path("benchmarks") / "family.json"
EQUAL_TIME = pathlib.Path("equal_time")
HEADERS = (TIME, *(place.title for place in equal_cost.PLACES.values()))
Column = Callable[[list[str]], str]  # from names of variants to a cell


def columns(results: pathlib.Path) -> Mapping[str, Column]:
    """Header -> cells, of what a folder of results has measured.

    TIME, of the benchmark `family`: what a step takes over a plain one. Titles of
    `equal_cost.PLACES`, of the experiment `equal_time`: errors in the time of SAM's.
    """
    found: dict[str, Column] = {}
    if (results / FAMILY).exists():
        rows = json.loads((results / FAMILY).read_text())["rows"]
        ratios = {row["figure"].split()[0]: row["ratio"] for row in rows} | {"erm": 1}
        found[TIME] = lambda names: between(names, ratios)
    if (results / EQUAL_TIME / execution.ARRAYS).exists():
        arrays = execution.read_arrays(results / EQUAL_TIME)
        for place in map(str, arrays["places"]):
            errors = equal_cost.in_equal_time(arrays, place)
            found[equal_cost.PLACES[place].title] = lambda names, errors=errors: (
                errors.get(names[0], "-") if len(names) == 1 else "-"
            )
    return found


def fill(text: str, results: pathlib.Path) -> str:
    """A page whose tables of variants say what was measured; the rest as it is."""
    known = columns(results)

    def by(header: tables.Cells):
        if not known.keys() & set(header):
            return None

        def change(cells: tables.Cells) -> tables.Cells:
            names = re.findall(r"`(\w+)", cells[0])
            return [
                known[column](names) if column in known else cell
                for column, cell in zip(header, cells, strict=True)
            ]

        return change

    return tables.rewrite(text, by)


def between(names: list[str], ratios: Mapping[str, float]) -> str:
    """The ratio of one variant, 1.9 to 2.4 of several; "-" where none was measured."""
    found = sorted(ratios[name] for name in names if name in ratios)
    ends = [f"{ratio:.1f}" for ratio in (*found[:1], *found[-1:])]
    return " to ".join(dict.fromkeys(ends)) or "-"
