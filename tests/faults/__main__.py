"""`python -m tests.faults [--seed=N] [--share=S] [--only=NAME,...]`.

Does to runs and functions what a long life does to them, and prints a table of what was
lost. A seed does the same again, but for the moments at which a machine is slow. Exit
status 1 if anything was lost.
"""

import argparse
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable

from sam_jax import output
from sam_jax.training import startup
from tests.faults import commands, damage, interruptions, pairs, runs
from tests.faults.outcome import Outcome

Suite = Callable[[int, int, pathlib.Path], Outcome]


def _configurations(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    from tests.faults import configurations

    return configurations.configurations(seed, tries, folder)


def _trees(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    from tests.faults import trees

    return trees.transforms(seed, tries)


def _implicit(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    from tests.faults import trees

    return trees.implicit(seed, tries)


def _arguments(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    from tests.faults import arguments

    return arguments.every(seed, tries)


# Name -> suite, and how often a whole run of all tries it.
SUITES: dict[str, tuple[Suite, int]] = {
    "kills": (interruptions.kills, 200),
    "signals": (interruptions.signals, 60),
    "pairs": (pairs.signals_to_one, 12),
    "files": (damage.files, 120),
    "writers": (damage.two_writers, 10),
    "disk": (damage.full_disk, 10),
    "commands": (commands.commands, 300),
    "configurations": (_configurations, 2000),
    "trees": (_trees, 200),
    "implicit": (_implicit, 50),
    "arguments": (_arguments, 1),
}
HEADER = ["fault", "tries", "lost", "note"]


def main() -> int:
    """Runs the suites; returns the exit status."""
    parser = argparse.ArgumentParser("tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries")
    parser.add_argument("--only", default="", help=f"of {', '.join(SUITES)}")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(SUITES)
    startup.use_compilation_cache()
    found = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in chosen:
            tries = max(1, round(SUITES[name][1] * arguments.share))
            found.append(_alone(name, arguments.seed, tries, pathlib.Path(folder)))
            print(f"{name} done", file=sys.stderr, flush=True)
    rows = [[o.fault, str(o.tries), str(len(o.lost)), o.note] for o in found]
    print(output.table(HEADER, rows))
    lost = [f"{o.fault}: {what}" for o in found for what in o.lost]
    if lost:
        print(*lost[:50], sep="\n")
    return 1 if lost else 0


def _alone(name: str, seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """A suite in a child of its own."""
    suite, _ = SUITES[name]
    path = folder / f"{name}.outcome"

    def work() -> None:
        import jax

        if name in ("configurations", "trees", "implicit"):
            jax.config.update("jax_enable_x64", name != "configurations")
        path.write_text(json.dumps(suite(seed, tries, folder / name)))

    said = folder / f"{name}.txt"
    status = runs.status_of(runs.fork(work, said), seconds=3600)
    if status:
        words = said.read_text(errors="replace")
        return Outcome(name, tries, [f"the suite ended with {status}: {words[-2000:]}"])
    return Outcome(*json.loads(path.read_text()))


if __name__ == "__main__":
    sys.exit(main())
