"""`python -m experiments list | run NAME --scale=SCALE --out=DIR | sweep | report |
check`.

`list` shows what every experiment costs, and what of it is done; `run` writes
settings.json, arrays.npz, claims.json and figure.png into DIR, and resumes; `draw`
draws the figure anew from the saved arrays; `sweep` trains a grid of one recipe;
`report` puts all results on one page; `check` recomputes every claim from the saved
arrays and draws every figure, and writes nothing. `run --dry_run` prints the settings
beside the paper's, and the number of steps.

Exit status: 0; 1 if `check` finds what is not as it was saved; 2 for what is refused or
could not be trained; 128 plus the number of the signal for a command that one has
ended: the same command goes on.
"""

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

from experiments.harness import (
    claims,
    dry_run,
    execution,
    jobs,
    processes,
    registry,
    report,
    states,
    sweep,
    telling,
)
from sam_jax import output
from sam_jax.training import startup
from sam_jax.training.errors import TrainingError

EXAMPLES = """\
Every figure and table of the paper is a command:

  python -m experiments list
  python -m experiments run fig4 --scale=cpu
  python -m experiments run table1 --scale=paper --dry_run
  python -m experiments sweep --config=configs/digits.py:sam --out=/tmp/sweep \\
      --grid="sam.rho=[.1, .2]; seed=[0, 1]"

What was interrupted goes on by the same command."""
SWEEP = """\
  python -m experiments sweep --config=configs/digits.py:sam --out=/tmp/sweep \\
      --grid="sam.rho=[.1, .2]; seed=[0, 1]"

The choice is by the mean error on the noisy validation set."""
RESULT = "folder of its settings, arrays, claims and figure; default: results/NAME"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    processes.exit_on_sigterm()
    # Several processes on one accelerator take of its memory what they need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    startup.use_compilation_cache()
    try:
        status = arguments.command(arguments)
    except (ValueError, OSError, TrainingError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return max(2, getattr(error, "status", 2))
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command goes on.", file=sys.stderr)
        return 130
    return status or 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        "python -m experiments",
        description=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable, about: str, example: str = ""
    ) -> argparse.ArgumentParser:
        add = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.\n\n{example}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add.set_defaults(command=run)
        return add

    add = command("list", _list, "name all experiments, their cost and state")
    _add_results(add)
    add = command("run", _run, "compute, save, draw and judge one experiment")
    add.add_argument("name", metavar="NAME", help="one that `list` names")
    scales = "smoke: seconds; cpu, the default: minutes on two cores; fashion: hours; "
    scales += "paper: the paper's settings, for a GPU"
    add.add_argument("--scale", default="cpu", help=scales)
    add.add_argument("--out", metavar="DIR", help=RESULT)
    add.add_argument(
        "--dry_run",
        action="store_true",
        help="say settings, steps and hours; run nothing",
    )
    _add_jobs(add)
    add = command("sweep", _sweep, "train a grid of a recipe, and choose", SWEEP)
    add.add_argument("--config", required=True, help="configs/NAME.py:VARIANT")
    add.add_argument("--grid", required=True, help='"sam.rho=[.1, .2]; seed=[0, 1]"')
    add.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="folder for the runs, sweep.json and heat_map.png; the same command "
        "with the same folder trains what is missing there",
    )
    add.add_argument("--cluster", default="", help="local or slurm, through submitit")
    _add_jobs(add)
    add = command("draw", _draw, "draw a figure again, from the saved arrays")
    add.add_argument("name", metavar="NAME", help="one that `list` names")
    add.add_argument("--out", metavar="DIR", help=RESULT)
    add = command("report", _report, "put all results on one page")
    add.add_argument(
        "--pages",
        nargs="+",
        default=[],
        metavar="FILE",
        help="write what a page (README.md, some of docs/) has of results anew, too",
    )
    _add_results(add)
    _add_results(command("check", _check, "recompute all claims from the saved arrays"))
    return top


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--results",
        default="results",
        metavar="DIR",
        help="the folder with a folder for each experiment; default: results",
    )


def _add_jobs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="runs, or fleets of runs on an accelerator, trained side by side, each "
        "on its share of the cores; default: one a core (8 at most), one on an "
        "accelerator",
    )


def _workers(arguments: argparse.Namespace) -> int:
    if arguments.jobs < 0:
        raise ValueError(f"Received --jobs={arguments.jobs}; give 1 or more.")
    return arguments.jobs or jobs.by_default()


def _list(arguments: argparse.Namespace) -> None:
    results = _results(arguments)
    records = states.read(results)
    rows = [
        [name, registry.load(name).SOURCE, *states.describe(name, results, records)]
        for name in registry.names()
    ]
    header = ["name", "figure or table", "scales", "cost at cpu", "state"]
    print(output.table(header, rows, left=True))
    print(states.EXPLANATION)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        print(dry_run.describe(arguments.name, arguments.scale))
        return
    out, start = _folder(arguments), time.perf_counter()
    registry.settings(arguments.name, arguments.scale)  # refuses unknown ones
    if not hasattr(registry.load(arguments.name), "runs"):  # they are told one by one
        telling.say(f"{arguments.name} at scale {arguments.scale}, into {out}")
    found = execution.execute(arguments.name, arguments.scale, out, _workers(arguments))
    rows = claims.table([claims.plain(claim, "") for claim in found])
    note = report.SMOKE if arguments.scale == "smoke" else ""
    print(note, output.table(claims.HEADER, rows), note, sep="\n" if note else "")
    print(f"{time.perf_counter() - start:.1f} s. Arrays, claims and figure: {out}")


def _sweep(arguments: argparse.Namespace) -> None:
    grid = sweep.parse_grid(arguments.grid)
    out, workers = arguments.out, _workers(arguments)
    print(sweep.sweep(arguments.config, grid, out, arguments.cluster, workers))
    print(f"Runs, sweep.json and heat_map.png: {arguments.out}")


def _draw(arguments: argparse.Namespace) -> None:
    execution.draw(arguments.name, _folder(arguments))


def _report(arguments: argparse.Namespace) -> None:
    results = _results(arguments)
    for path in report.write(results):
        print(path)
    for path in map(pathlib.Path, arguments.pages):
        text = report.redrawn(path, results).encode()
        output.write_atomic(path, lambda file, text=text: file.write(text))
        print(path)


def _check(arguments: argparse.Namespace) -> int:
    """Says a line for every folder of results, and one for what differs there."""
    folders = sorted(p.parent for p in _results(arguments).rglob(execution.SETTINGS))
    status = 0
    for folder in folders:
        try:
            found = execution.check(folder)
            lines = [f"{found.claims} claims as saved"] if not found.odd else found.odd
            status = max(status, int(bool(found.odd)))
        except ValueError as error:
            lines, status = [str(error)], 1
        print(*(f"{folder}: {line}" for line in lines), sep="\n", flush=True)
    if not folders:
        raise ValueError(f"{arguments.results} holds no results of experiments.")
    return status


def _results(arguments: argparse.Namespace) -> pathlib.Path:
    if not arguments.results.strip():
        raise ValueError("Received an empty --results; give the folder of results.")
    return pathlib.Path(arguments.results)


def _folder(arguments: argparse.Namespace) -> str:
    return arguments.out or f"results/{arguments.name}"


if __name__ == "__main__":
    sys.exit(main())
