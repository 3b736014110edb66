"""`python -m experiments.main_job --out=DIR`: ERM against SAM on noisy digits.

The same seed, data, noise and network (`configs/digits.py`), first trained by ERM, then
by SAM. Leaves DIR/erm and DIR/sam as `sam_jax.train` does, and both curves in one
picture, DIR/curves.png; ends with a table. The same command again resumes it.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from configs import digits
from experiments.harness import processes
from sam_jax import plotting
from sam_jax.training import loop, startup, summary, writer
from sam_jax.training.configuration import ConfigError
from sam_jax.training.errors import TrainingError

VARIANTS = ("erm", "sam")
EXPLANATION = """\
best: at the epoch of least error on the noisy validation set; last: after all epochs.
noisy train: error against the labels that noise changed; high means not memorised."""


def compare(out: pathlib.Path, *, smoke: bool) -> None:
    """Trains both variants, draws their curves, and prints their table."""
    summaries, lines = {}, {}
    for variant in VARIANTS:
        names = f"{variant},smoke" if smoke else variant
        run = loop.prepare(digits.get_config(names), out / variant)
        summaries[run.label] = loop.train(run)
        history = writer.read_records(run.workdir / "metrics.jsonl")
        lines[run.label] = summary.curves(history)[""]
    plotting.save(plotting.training_curves(lines), out / "curves.png")
    print(summary.table(summaries))
    print(EXPLANATION)
    print(f"Both curves: {out / 'curves.png'}; all else in {out}/erm and {out}/sam")


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments, and ends with one line for what cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="results/main_job", help="directory to write")
    parser.add_argument("--smoke", action="store_true", help="seconds, for a test")
    arguments = parser.parse_args(argv)
    processes.exit_on_sigterm()
    startup.use_compilation_cache()
    try:
        compare(pathlib.Path(arguments.out), smoke=arguments.smoke)
    except (ConfigError, TrainingError, OSError) as error:
        print(f"experiments.main_job: {error}", file=sys.stderr)
        sys.exit(getattr(error, "status", 1))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
