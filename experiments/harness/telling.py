"""Lines on the terminal while an experiment without training runs computes."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sam_jax.training.progress import duration

Item = TypeVar("Item")


def each(items: Sequence[Item], label: str) -> Iterator[Item]:
    """Hands on items, and says before each how far it is, and from the second on for
    how long: "Figure 9: SumMax, 3 of 6; about 80 s left".
    """
    start = time.monotonic()
    for done, item in enumerate(items):
        left = (time.monotonic() - start) / max(done, 1) * (len(items) - done)
        about = f"; about {duration(left)} left" if done else ""
        place = f"{done + 1} of {len(items)}"
        say(f"{label}: {item}, {place}{about}")
        yield item


def say(text: str) -> None:
    """A line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)
