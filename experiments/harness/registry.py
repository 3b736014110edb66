"""Where experiments are found: every figure and table is a module of `experiments`.

An experiment is found by its file name, and is in no list. It declares

    SOURCE   the figure, table or statement of the paper, "Figure 4"
    SCALES   {scale: its settings, a flat dataclass}, of the scales below
    X64      True if it computes in float64 (left out: False)
    TIMED    True if its claims compare times (left out: False)
    run      settings -> arrays by name
    judge    (settings, arrays, as saved) -> claims
    plot     arrays, as saved -> matplotlib Figure
    table    arrays, as saved -> rows of text for the report, the header first (left
             out: none)

One that trains networks declares `runs` as well: settings -> its planned runs by key,
which `harness.training` trains in OUT/runs; `run` then takes (settings, trained runs).
Experiments that train the same networks declare the same SHARED, the name of a folder
beside OUT with a folder for each recipe, and train them once. One that reads errors
alone may declare TAKES, names of experiments: what these have trained in folders beside
OUT, of equal configurations, is copied and not trained again. One that takes longer
than a machine may be had declares `kept`: settings -> its runs, and those that settings
to come will add. What the finished ones have logged is put into OUT/runs.SCALE.tar.xz
every few minutes and when the command ends, and it goes on from there on any machine.
Its settings may have `changes` to the keys of its recipe.

smoke takes seconds and shows that it runs; cpu takes minutes on two cores; fashion, of
experiments on networks alone, takes hours on them with enough real images to decide;
paper is the paper's own setting.
"""

import dataclasses
import importlib
import json
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import experiments
from experiments.harness.runs import Key, PlannedRun
from sam_jax import checks
from sam_jax.training import configuration

DECLARED = ("SOURCE", "SCALES", "run", "judge", "plot")
SCALES = ("smoke", "cpu", "fashion", "paper")


def names() -> list[str]:
    """Names of all experiments: the modules of this package that declare one."""
    return sorted(name for name in _files() if hasattr(_module(name), "SOURCE"))


def load(name: str) -> ModuleType:
    """The module of this experiment; for an unknown name an error that lists them."""
    module = _module(name) if name in _files() else None
    if module is None or not hasattr(module, "SOURCE"):
        raise ValueError(f"Unknown experiment {name!r}; known: {', '.join(names())}.")
    missing = [part for part in DECLARED if not hasattr(module, part)]
    if missing:
        raise ValueError(f"experiments/{name}.py does not declare {missing}.")
    return module


def command(name: str, scale: str) -> str:
    """What a user types for an experiment at a scale."""
    return f"python -m experiments run {name} --scale={scale}"


def title(module: ModuleType) -> str:
    """The first line of the experiment's docstring."""
    return (module.__doc__ or module.__name__).splitlines()[0]


def settings(name: str, scale: str) -> dict[str, Any]:
    """The settings of a scale as they are stored: plain JSON values by key."""
    module = load(name)
    chosen = checks.choose("scale", scale, module.SCALES)
    values = json.loads(json.dumps(dataclasses.asdict(chosen)))
    if hasattr(module, "runs"):
        values = {
            k: v
            for k, v in values.items()
            if k not in ("changes", "recipe") and v is not None
        }
        values |= common_keys(module.runs(chosen))
    return values


def methods(name: str, scale: str) -> dict[str, dict[str, Any]]:
    """The keys that differ between methods, {"sam.kind": {"erm": "erm", ...}, ...}.

    A run's key begins with its method. Keys with several values in a method (seed, rho)
    are those that it is run with, and are left out.
    """
    module = load(name)
    if not hasattr(module, "runs"):
        return {}
    found: dict[str, dict[str, set]] = {}
    for key, run in module.runs(module.SCALES[scale]).items():
        flat = configuration.flatten(configuration.check(run.config))
        for option, value in flat.items():
            if isinstance(value, dict):  # model.options
                value = str(value)
            found.setdefault(option, {}).setdefault(str(key[0]), set()).add(value)
    return {
        option: {method: next(iter(v)) for method, v in values.items()}
        for option, values in found.items()
        if all(len(v) == 1 for v in values.values())
        and len(set.union(*values.values())) > 1
    }


def common_keys(runs: Mapping[Key, PlannedRun]) -> dict[str, Any]:
    """The configuration that all runs share, as {"data.name": "digits", ...}."""
    flat = [
        configuration.flatten(configuration.check(run.config)) for run in runs.values()
    ]
    shared = {k: v for k, v in flat[0].items() if all(f[k] == v for f in flat)}
    return json.loads(json.dumps(shared))


def _files() -> list[str]:
    found = pkgutil.iter_modules(experiments.__path__)
    return [m.name for m in found if not m.ispkg and m.name != "__main__"]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"experiments.{name}")
