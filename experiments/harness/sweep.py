"""A grid of runs of one recipe: trained, selected by noisy validation, and drawn.

`python -m experiments sweep --config=configs/digits.py:sam --grid="sam.rho=[.1, .2];
seed=[0, 1]" --out=DIR`. Finished runs are not trained again. With --cluster they go
through submitit: "slurm", or "local" for processes of this machine. On an accelerator
runs that differ in seed and coefficients alone are trained as one program.
"""

import ast
import importlib.util
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.harness import comparison, training
from experiments.harness.runs import (
    Key,
    PlannedRun,
    TrainedRun,
    changed,
    combinations,
    unfinished,
)
from sam_jax import output, plotting
from sam_jax.training import configuration, recipes

Grid = dict[str, list[Any]]
FIGURES = ("validation_error_best", "test_error_best", "test_error_last")
CLUSTERS = ("", "local", "slurm")


def sweep(
    recipe: str, grid: Grid, out: output.Path, cluster: str = "", workers: int = 1
) -> str:
    """Trains every run that is not finished, and writes table, heat map and choice.

    Args:
      workers: processes that train side by side on this machine.

    Returns: the table; the row chosen by noisy validation comes first.
    Raises: ValueError for an unknown recipe, key or cluster, and for a folder that
      holds runs of other configurations.
    """
    if cluster not in CLUSTERS:
        raise ValueError(
            f"Received --cluster={cluster!r}; it is one of 'local' and 'slurm', or is "
            "left out to train in this process."
        )
    out, runs = pathlib.Path(out), plan(read_recipe(recipe), grid)
    if cluster:
        submit(runs, out / "runs", cluster)
    trained = training.train(runs, out / "runs", workers=workers)
    return summarize(trained, grid, out)


def read_recipe(recipe: str) -> ConfigDict:
    """The configuration of "configs/NAME.py:VARIANTS"."""
    path, _, names = recipe.partition(":")
    spec = importlib.util.spec_from_file_location("recipe", recipes.find(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(names)


def _values(text: str) -> list[Any]:
    """The values of an axis; [] for what is no list of different finite ones."""
    try:
        values = ast.literal_eval(text)  # literals alone: nothing is evaluated
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    if not isinstance(values, list | tuple):
        return []
    for value in values:
        finite = not isinstance(value, float) or math.isfinite(value)
        if not (isinstance(value, int | float | str) and finite):
            return []
    return list(values) if len(set(values)) == len(values) else []


def parse_grid(text: str) -> Grid:
    """ "sam.rho=[.1, .2]; seed=[0, 1]" -> {"sam.rho": [.1, .2], "seed": [0, 1]}.

    Raises: ValueError for an unknown key, and for what is no list.
    """
    grid: Grid = {}
    for part in filter(str.strip, text.split(";")):
        key, equals, values = (piece.strip() for piece in part.partition("="))
        configuration.check_key(key)
        if key in grid:
            raise ValueError(f"Received {key} twice in --grid; give each key once.")
        grid[key] = _values(values)
        if not equals or not grid[key]:
            raise ValueError(
                f"Received {part.strip()!r} in --grid; give KEY=[VALUE, ...] for every "
                "axis, of different finite numbers or words, joined by semicolons: "
                '"sam.rho=[.1, .2]; seed=[0, 1]".'
            )
    if not grid:
        raise ValueError('Received an empty --grid; give, say, "sam.rho=[.1, .2]".')
    return grid


def plan(config: ConfigDict, grid: Grid) -> dict[Key, PlannedRun]:
    """A run for every combination, under a name of its keys and values."""
    found = {}
    for values in combinations(grid):
        key = tuple(f"{name}={value}" for name, value in values.items())
        found[key] = PlannedRun(changed(config, values))
    return found


def submit(runs: Mapping[Key, PlannedRun], folder: pathlib.Path, cluster: str) -> None:
    """Trains the unfinished runs as one job array, and waits for all of them."""
    import submitit  # late: most sweeps run in this process

    executor = submitit.AutoExecutor(folder.parent / "jobs", cluster=cluster)
    executor.update_parameters(timeout_min=60 * 24, cpus_per_task=2)
    left = unfinished(runs, folder)
    folders = [folder] * len(left)
    jobs = executor.map_array(Job(), left.keys(), left.values(), folders)
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:  # those of an interrupted sweep; nothing to a finished one
            if not job.done():
                job.cancel()


class Job:
    """What a job does: one run. Warned by the scheduler, the run saves its last step,
    and submitit puts the job into the queue again, where it goes on from there.
    """

    def __call__(self, key: Key, planned: PlannedRun, folder: pathlib.Path) -> None:
        from sam_jax.training import startup

        startup.use_compilation_cache()
        training.train({key: planned}, folder)

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit queues again: the same, since the folder holds the state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def summarize(trained: Mapping[Key, TrainedRun], grid: Grid, out: pathlib.Path) -> str:
    """Writes sweep.json and heat_map.png; returns the table, best first."""
    axes = {name: values for name, values in grid.items() if name != "seed"}
    order = [name for name in grid if name != "seed"] + ["seed"] * ("seed" in grid)
    errors = {f: np.array([t.figure(f) for t in trained.values()]) for f in FIGURES}
    shape = [len(values) for values in grid.values()]
    source = [list(grid).index(name) for name in order]
    tables = {
        f: np.transpose(e.reshape(shape), source).reshape(
            -1, len(grid.get("seed", [0]))
        )
        for f, e in errors.items()
    }
    ranking = np.argsort(tables[FIGURES[0]].mean(-1), kind="stable")
    labels = [
        dict(zip(axes, v, strict=True)) for v in itertools.product(*axes.values())
    ]
    rows = [
        [_words(labels[i]), *(comparison.spread(tables[f][i]) for f in FIGURES)]
        for i in ranking
    ]
    best = {"chosen": labels[ranking[0]], "by": "mean validation error, noisy labels"}
    record = {f: t.tolist() for f, t in tables.items()}
    output.write_json(out / "sweep.json", {"grid": grid, **best, "errors": record})
    plotting.save(_heat_map(tables[FIGURES[1]], axes, grid), out / "heat_map.png")
    header = ["setting", *(name.replace("_error_", ", ") + " (%)" for name in FIGURES)]
    return f"{output.table(header, rows)}\n{choice(labels[ranking[0]], axes)}"


def choice(best: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> str:
    """What was chosen, as flags, and which of its values end their grid."""
    flags = " ".join(f"--config.{name}={value}" for name, value in best.items())
    text = f"Chosen by the mean error on the noisy validation set: {flags or '-'}"
    ends = [
        name
        for name, values in axes.items()
        if len(values) > 1
        and not isinstance(best[name], str)
        and best[name] in (min(values), max(values))
    ]
    if ends:
        text += f"\nThat ends the grid of {', '.join(ends)}: a wider one may do better."
    return text


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "-"


def _heat_map(
    errors: np.ndarray, axes: Mapping[str, Sequence[Any]], grid: Grid
) -> plotting.Figure:
    """Test error, best epoch: over two axes (mean over the rest), or one and seeds."""
    figure, (panel,) = plotting.panels(width=6.0, height=4.0)
    names = list(axes)
    if len(names) >= 2:
        shape = [len(values) for values in axes.values()]
        rest = tuple(range(2, len(names) + 1))
        values = errors.reshape(*shape, -1).mean(rest)
        rows, columns = ({n: axes[n]} for n in names[:2])
    else:
        values = errors
        rows = {names[0]: axes[names[0]]} if names else {"": [""]}
        columns = {"seed": grid.get("seed", [0])}
    plotting.heat_map(panel, 100 * values, rows, columns)
    panel.set_title("test error, best epoch by validation (%)")
    return figure
