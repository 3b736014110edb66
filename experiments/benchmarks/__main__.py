"""`python -m experiments.benchmarks [--only=NAMES] [--out=DIR]`: one table of ratios.

Also `make bench`. Every ratio is of medians of calls that alternate in this process;
DIR/benchmarks.json keeps them with the machine they were measured on.
"""

import pathlib

from absl import app, flags, logging

from experiments.benchmarks import per_example, steps, timing
from sam_jax import checks, results

SUITES = {
    "sam": steps.sam_against_erm,
    "feed": steps.feed_against_step,
    "swaps": per_example.swaps,
    "per_example": per_example.against_sam,
}

_OUT = flags.DEFINE_string("out", "results/benchmarks", "where the JSON goes")
_ONLY = flags.DEFINE_list("only", [], f"suites to run, of {', '.join(SUITES)}")


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments {argv[1:]}.")
    logging.set_verbosity(logging.WARNING)
    try:
        suites = [checks.choose("suite", name, SUITES) for name in _ONLY.value]
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    machine = timing.machine()
    print(", ".join(f"{k}: {v}" for k, v in machine.items()))
    rows = []
    for suite in suites or SUITES.values():
        rows += suite()
        print(f"{rows[-1]['figure']}: {rows[-1]['ratio']:.3f}", flush=True)
    print("\n" + table(rows))
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    results.write_json(out / "benchmarks.json", {"machine": machine, "rows": rows})


def table(rows: list[steps.Row]) -> str:
    """Ratio of medians (of minima), the goal, and the seconds behind it."""
    return results.table(
        ["figure", "ratio", "of minima", "goal", "ms", "baseline ms"],
        [
            [
                row["figure"],
                f"{row['ratio']:.3f}",
                f"{row['ratio_of_minima']:.3f}",
                "-" if row["goal"] is None else f"<= {row['goal']:g}",
                f"{1e3 * row['seconds']:.2f}",
                f"{1e3 * row['baseline_seconds']:.2f}",
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    app.run(main)
