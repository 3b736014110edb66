"""Tables of Markdown pages, some of whose cells are written from results."""

import re
from collections.abc import Callable

Cells = list[str]


def rewrite(text: str, by: Callable[[Cells], Callable[[Cells], Cells] | None]) -> str:
    """A page, with the rows of some of its tables written anew.

    Args:
      by: takes the header of a table; returns what makes of a row's cells the new ones,
        None for a table that stays as it is.
    """
    lines, inside, change = [], False, None
    for line in text.split("\n"):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside, change = False, None
        elif not inside:
            inside, change = True, by(cells)
        elif change is not None and set(cells[0]) != {"-"}:
            line = f"| {' | '.join(change(cells))} |"
        lines.append(line)
    return "\n".join(lines)
