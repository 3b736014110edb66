"""`python -m experiments.benchmarks [--only=SUITES] [--out=DIR]`: one table of ratios.

Also `make bench`. Every ratio is of medians of calls that alternate. DIR/SUITE.json
keeps a suite's rows with the machine they were measured on; `growth` leaves its curves
in DIR/growth.npz and their picture in DIR/growth.png. `peers` needs PyTorch in a
virtual environment of its own and runs only when named: `make bench-peers`.
"""

import pathlib

import jax
import numpy as np
from absl import app, flags, logging

from experiments.benchmarks import (
    attacks,
    family,
    fleets,
    flows,
    growth,
    peers,
    per_example,
    rows,
    sharded,
    startup,
    steps,
    timing,
    trainer,
)
from experiments.harness import processes
from sam_jax import checks, output, plotting

SUITES = {
    "startup": startup.first_step,
    "sam": steps.sam_against_erm,
    "family": family.over_plain_steps,
    "fleets": fleets.against_one,
    "feed": steps.feed_against_step,
    "trainer": trainer.against_hand_written,
    "sharded": sharded.against_plain,
    "swaps": per_example.swaps,
    "per_example": per_example.against_sam,
    "clipping": per_example.clipping,
    "depth": per_example.depth,
    "flows": flows.against_loops,
    "attacks": attacks.against_original,
    "growth": growth.measure,
    "peers": peers.against_pytorch,
}
BY_DEFAULT = [name for name in SUITES if name != "peers"]

_OUT = flags.DEFINE_string("out", "results/benchmarks", "where the results go")
_ONLY = flags.DEFINE_list(
    "only", BY_DEFAULT, f"suites to run, of {', '.join(SUITES)}; all but peers"
)


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments {argv[1:]}.")
    processes.exit_on_sigterm()
    logging.set_verbosity(logging.WARNING)
    # times to compile are measured, too
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        suites = {n: checks.choose("suite", n, SUITES) for n in _ONLY.value}
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    machine = timing.machine()
    print(", ".join(f"{k}: {v}" for k, v in machine.items()))
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    for name, suite in suites.items():
        print(f"\n{name}: {(suite.__doc__ or '').splitlines()[0]}", flush=True)
        measured = suite()
        if name == "growth":
            draw(out, measured)
        else:
            output.write_json(
                out / f"{name}.json", {"machine": machine, "rows": measured}
            )
            print(rows.table(measured), flush=True)


def draw(out: pathlib.Path, arrays: growth.Arrays) -> None:
    """Saves the curves, and draws what was saved."""
    output.write_arrays(out / "growth.npz", arrays)
    with np.load(out / "growth.npz") as saved:
        plotting.save(growth.plot(dict(saved)), out / "growth.png")
    print(f"curves: {out / 'growth.png'}")


if __name__ == "__main__":
    app.run(main)
