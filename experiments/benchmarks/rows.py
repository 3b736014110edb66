"""What a benchmark reports: calls with a baseline, their ratio, and a goal."""

from typing import Any

from experiments.benchmarks.timing import Timing
from sam_jax import output

# figure: what is compared with what. seconds, baseline_seconds: medians; ratio,
# ratio_of_minima: of the two calls; rounds: how often each ran. goal: the most that the
# ratio (of a call without a baseline: the seconds) should be. memory, baseline_memory:
# temporary bytes. compile_seconds: of tracing and compiling. What was not measured, or
# has no goal, is missing or None.
Row = dict[str, Any]

COLUMNS = {
    "ratio": "time ratio",
    "ratio_of_minima": "of minima",
    "goal": "goal",
    "seconds": "time",
    "baseline_seconds": "baseline",
    "memory_ratio": "memory ratio",
    "memory": "memory",
    "compile_seconds": "compile",
}


def compare(
    figure: str, timings: dict[str, Timing], a: str, b: str, **others: Any
) -> Row:
    """Call a against call b, from timings that alternated; others: goal, memory, ..."""
    ours, theirs = timings[a], timings[b]
    return {
        "figure": figure,
        "seconds": ours.median,
        "baseline_seconds": theirs.median,
        "ratio": ours.median / theirs.median,
        "ratio_of_minima": ours.minimum / theirs.minimum,
        "rounds": ours.rounds,
        **others,
    }


def alone(figure: str, timing: Timing, **others: Any) -> Row:
    """A call without a baseline."""
    measured = {"seconds": timing.median, "rounds": timing.rounds}
    return {"figure": figure, **measured, **others}


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    lines = [[row["figure"], *(cell(row, name) for name in COLUMNS)] for row in rows]
    return output.table(["figure", *COLUMNS.values()], lines)


def cell(row: Row, name: str) -> str:
    """One entry of the table; '-' where there is nothing."""
    if name == "memory_ratio":
        value = row.get("memory"), row.get("baseline_memory")
        return f"{value[0] / value[1]:.2f}" if all(value) else "-"
    value = row.get(name)
    if value is None:
        return "-"
    if name == "memory":
        return f"{value / 2**20:.1f} MiB"
    if name.endswith("seconds"):
        if value >= 1:
            return f"{value:.2f} s"
        return f"{1e3 * value:.1f} ms" if value >= 1e-4 else f"{1e6 * value:.1f} us"
    if name == "goal":
        return f"<= {value:.3g}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
