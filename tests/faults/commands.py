"""Random command lines and grids: an exit status and a line, never a traceback."""

import pathlib
import random
import sys

from tests.faults import runs
from tests.faults.outcome import Outcome

LINES = 3
PIECES = {
    "--config": [
        *("configs/digits.py:sam,smoke", "configs/digits.py:nonsense", "", "/"),
        *(
            "configs",
            "README.md",
            "/dev/null",
            "configs/none.py",
            "configs/digits.py:,:",
        ),
    ],
    "--workdir": ["run", "", " ", "/proc/run", "/dev/null", "run/../run", "\t"],
    "--config.sam.rho": ["0.1", "x", "", "nan", "-1", "1e400", "[1]", "None"],
    "--config.sam.kind": ["sam", "SAM", "", "42"],
    "--config.epochs": ["1", "0", "1.5", "-3", "1" + "0" * 400],
    "--config.sam.nothing": ["1"],
    "--config.sam": ["1", "{}"],
    "--coordinator": ["", "garbage", "host:", ":1", "localhost:99999999"],
    "--process_id": ["0", "1", "x", "-1"],
    "--process_count": ["1", "x", "0"],
    "--rho": ["0.3"],
    "--verbosity": ["-1", "0", "x"],
    "positional": [""],
    "-": [""],
    "--": [""],
}
EXPERIMENTS = [
    *(["run"], ["run", "nothing"], ["run", "fig6", "--scale=none"], ["draw"], []),
    *(["draw", "fig6", "--out=/proc/none"], ["report", "--results=/dev/null"]),
    *(["run", "fig2", "--scale=cpu", "--dry_run", "--jobs=-1"], ["sweep"], ["none"]),
    *(["run", "fig6", "--jobs=x"], ["report", "--results="], ["run", "../fig6"]),
]
CELLS = ["1", "[1]", "[]", "[1,", "nan", "1e400", "'x'", "[[1]]", "[1, 1]", "", "None"]
KEYS = ["sam.rho", "seed", "sam.none", "", "sam", "sam.rho=", "=", "seed;seed"]


def commands(seed: int, tries: int, folder: pathlib.Path) -> Outcome:
    """Of `sam_jax.train`, `experiments` and `experiments sweep`, in turn."""
    chance, lost = random.Random(seed), []
    folder.mkdir(parents=True)
    for number in range(tries):
        line = (_train, _experiments, _sweep)[number % 3](chance, folder / str(number))
        said = folder / f"{number}.txt"
        status = runs.status_of(runs.fork(lambda line=line: _run(line), said), 60)
        words = said.read_text(errors="replace")
        if status not in (0, 1, 2) or "Traceback" in words:
            lost.append(f"{line}: status {status}: {words[-300:]}")
        elif status and len(words.splitlines()) > LINES and "usage:" not in words:
            lost.append(f"{line}: {words[:300]}")
    return Outcome("a random command line", tries, lost)


def _train(chance: random.Random, workdir: pathlib.Path) -> list[str]:
    chosen = chance.sample(sorted(PIECES), chance.randint(1, 4))
    line = ["sam_jax.train"]
    if chance.random() < 0.7:
        line += ["--config=configs/digits.py:erm,smoke", f"--workdir={workdir}"]
    for name in chosen:
        value = chance.choice(PIECES[name])
        if value == "run":
            value = str(workdir)
        line.append(name if name == "positional" else f"{name}={value}")
    # No random line may begin to train for minutes.
    return [*line, "--config.schedule.peak=none"]


def _experiments(chance: random.Random, workdir: pathlib.Path) -> list[str]:
    return ["experiments", *chance.choice(EXPERIMENTS)]


def _sweep(chance: random.Random, workdir: pathlib.Path) -> list[str]:
    parts = [
        f"{chance.choice(KEYS)}={chance.choice(CELLS)}"
        for _ in range(chance.randint(0, 3))
    ]
    recipe = chance.choice(["configs/digits.py:sam,smoke", "configs/none.py", "/", ""])
    grid = chance.choice(["; ", ";", ", ", ""]).join([*parts, "sam.none=[1]"])
    return ["experiments", "sweep", f"--config={recipe}", f"--grid={grid}", "--out=/x"]


def _run(line: list[str]) -> None:
    """The command, as `python -m` starts it."""
    sys.argv = line
    if line[0] == "experiments":
        from experiments import __main__ as experiments

        sys.exit(experiments.main(line[1:]))
    from absl import app

    from sam_jax import train

    app.run(train.main, flags_parser=train.parse_flags)
