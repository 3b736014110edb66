"""Tables for the terminal, and files that are either whole or not there at all."""

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

Path = str | os.PathLike[str]


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` fill a file beside `path`, then moves it there in one go.

    A reader, or a run killed half-way, sees the old file or the new one. An OSError
    (a full or read-only disk) leaves the old one in place.
    """
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically.

    Raises: ValueError that names the place of a number that is not finite.
    """
    refuse_non_finite(value)
    text = json.dumps(value, indent=2) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays atomically as a compressed .npz without pickled objects.

    Raises: ValueError that names an array with NaN or infinite entries.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            raise ValueError(
                f"Received {name!r} of dtype object; results are stored as plain "
                "numeric, boolean or string arrays."
            )
        if array.dtype.kind in "fc" and not np.all(np.isfinite(array)):
            bad = int(np.sum(~np.isfinite(array)))
            raise ValueError(
                f"Received {name!r} with {bad} of {array.size} entries not finite; a "
                "result must be finite. Mask failed entries before saving."
            )
    write_atomic(path, lambda file: np.savez_compressed(file, **arrays))


def refuse_non_finite(value: Any, place: str = "") -> None:
    """Raises ValueError if a number in nested dicts and lists is NaN or infinite."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_non_finite(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            refuse_non_finite(item, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Received {place or 'a value'} = {value}; it must be finite.")


def percent(fraction: float | None) -> str:
    """0.0376 -> '3.8 %'; None, for what was not measured, -> '-'."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, left: bool = False
) -> str:
    """Aligned text: the first column to the left, the others to the right, or all to
    the left.
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        align = str.ljust if left else str.rjust
        rest = [align(c, w) for c, w in zip(row[1:], widths[1:], strict=True)]
        return "  ".join([first, *rest]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
