"""Methods against each other: each over its rho grid and the same seeds.

What is saved for a method `key`, over rho, seeds and evaluated epochs: key_rho f[R];
key_validation, key_best, key_last and the like f[R, S], errors as fractions; key_curve
and the like f[R, S, E]; and "epoch", "seeds" once. The rho of a method has the least
error on the noisy validation set, on average over seeds; the best epoch of a run has
the least error on its own.

Where the first few seeds choose rho, the others are trained with that one alone:
key_run, bool[R, S], says what was trained, and the rest of the arrays has the worst
value there is, which no choice falls on.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.harness.claims import Arrays
from experiments.harness.runs import (
    Key,
    PlannedRun,
    TrainedRun,
    Trial,
    changed,
    table,
    variants,
    worst,
)

# Scale fashion: seeds for what was first run after its settings had been tried on
# others, below 20; older experiments keep theirs. More of them, new again and without
# those ten, for what ten had left undecided. The grid of SAM over the whole batch
# on ten classes, how many seeds choose from it (all would take twice the time), and the
# network without normalisation layers, whose steps take a third of the time. With 60%
# noise its radii cannot be told apart by two seeds and 1,000 noisy labels each: of ten
# new seeds the first two chose ends of grids. Half of the seeds choose there.
FASHION_SEEDS = tuple(range(20, 30))
MORE_SEEDS = tuple(range(30, 50))
FASHION_RHO = (0.01, 0.03, 0.1, 0.3, 1.0)
FASHION_TUNING = 2
NOISY_TUNING = 5
PLAIN = {"model.name": "conv_net"}
FIGURES = {
    "validation": "validation_error_best",
    "best": "test_error_best",
    "last": "test_error_last",
    "noisy": "train_noisy_error_last",
}
CURVES = {"curve": "test_error"}
NOT_TRAINED = TrainedRun(pathlib.Path(), {}, [])  # as one that failed


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an experiment on a recipe is run with; its own settings add to these.

    rho: SAM's grid. recipe: variants of the recipe beside each method's own.
    changes: keys changed in every run. tuning: how many of the seeds choose rho, for
    the others as well; None for all of them.
    """

    seeds: tuple[int, ...] = (0,)
    rho: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4)
    recipe: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tuning: int | None = None


@dataclasses.dataclass(frozen=True)
class Method:
    """key: of its arrays. label: in figures and claims. config: without rho and seed.
    rho: its grid; () for a method that has none.
    """

    key: str
    label: str
    config: ConfigDict
    rho: Sequence[float] = ()

    @property
    def values(self) -> list[float]:
        """The grid, with one value where rho means nothing."""
        return list(self.rho) or [self.config.sam.rho]


def from_recipe(
    get_config: Callable[[str], ConfigDict],
    labels: Mapping[str, str],
    settings: Settings,
    *,
    grids: Mapping[str, Sequence[float]] | None = None,
    changes: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> list[Method]:
    """A method for every variant of a recipe.

    Args:
      labels: variant -> label.
      grids: variant -> rho, where that is not the settings' grid; () for "erm".
      changes: keys changed beside the settings' own.
      prefix: of the methods' keys, before the variant.
    """
    rho = {"erm": (), **(grids or {})}
    found = []
    for variant, label in labels.items():
        config = get_config(variants(variant, settings.recipe))
        config = changed(config, {**settings.changes, **(changes or {})})
        grid = rho.get(variant, settings.rho)
        found.append(Method(f"{prefix}{variant}", label, config, grid))
    return found


def plan(
    methods: Iterable[Method],
    seeds: Sequence[int],
    tuning: int | None = None,
    *,
    figure: str = FIGURES["validation"],
) -> dict[Key, PlannedRun]:
    """One run a method, rho and seed.

    Args:
      tuning: how many of the seeds choose rho, which the others are trained with; None
        for all of them. figure: of a run's summary, by which they choose.
    """
    return {
        (method.key, rho, seed): PlannedRun(
            changed(method.config, {"sam.rho": rho, "seed": seed}),
            trial=_trial(method, place, seeds[:tuning], figure)
            if tuning and i >= tuning and len(method.values) > 1
            else None,
        )
        for method in methods
        for place, rho in enumerate(method.values)
        for i, seed in enumerate(seeds)
    }


def _trial(method: Method, place: int, seeds: Sequence[int], figure: str) -> Trial:
    keys = [tuple((method.key, rho, seed) for seed in seeds) for rho in method.values]
    return Trial(tuple(keys), figure, place)


def collect(
    methods: Sequence[Method],
    seeds: Sequence[int],
    trained: Mapping[Key, TrainedRun],
    *,
    figures: Mapping[str, str] = FIGURES,
    curves: Mapping[str, str] = CURVES,
) -> Arrays:
    """The arrays of all methods.

    Args:
      figures, curves: name of an array -> name in a run's summary, or in its records.
        Figures that no run has, such as those of noisy examples, are left out.
    """
    arrays: dict[str, np.ndarray] = {"seeds": np.asarray(seeds)}
    whole = max(trained.values(), key=lambda run: len(run.curve("test_error")))
    known = {name for run in trained.values() for name in run.summary}
    evaluated = [r["epoch"] for r in whole.history if "test_error" in r]
    arrays["epoch"] = np.array(evaluated)
    for method in methods:
        axes = [method.key], method.values, seeds
        arrays[f"{method.key}_rho"] = np.array(method.values, float)
        there = [[(method.key, rho, s) in trained for s in seeds] for rho in axes[1]]
        if not np.all(there):
            arrays[f"{method.key}_run"] = np.array(there)
        own = {key: trained.get(key, NOT_TRAINED) for key in itertools.product(*axes)}
        for name, figure in figures.items():
            if figure in known or not known:  # nothing is known where all have failed
                values = table(own, figure, *axes)
                arrays[f"{method.key}_{name}"] = values[0]
        for name, curve in curves.items():
            arrays[f"{method.key}_{name}"] = np.array(
                [
                    [
                        _padded(
                            own[method.key, rho, seed].curve(curve),
                            len(whole.curve(curve)),
                            worst(curve),
                        )
                        for seed in seeds
                    ]
                    for rho in method.values
                ]
            )
    return arrays


def chosen(arrays: Arrays, key: str, name: str) -> np.ndarray:
    """An array of a method at its rho by validation, f[S] or f[S, E]."""
    return arrays[f"{key}_{name}"][index(arrays, key)]


def select(validation: np.ndarray) -> np.ndarray:
    """The best value by mean validation error over seeds, the first of equals.

    Args:
      validation: [..., values, seeds].

    Returns: indices, i[...].
    """
    return validation.mean(-1).argmin(-1)


def index(arrays: Arrays, key: str) -> int:
    """Which rho validation chooses for a method."""
    return int(select(arrays[f"{key}_validation"]))


def rho(arrays: Arrays, key: str) -> float:
    """The rho that validation chooses for a method."""
    return float(arrays[f"{key}_rho"][index(arrays, key)])


def tried(arrays: Arrays, key: str) -> int:
    """How many of the seeds, the first ones, have runs of every rho."""
    whole = np.ones(arrays[f"{key}_validation"].shape, bool)
    return int(arrays.get(f"{key}_run", whole).all(0).sum())


def by_heart(
    arrays: Arrays,
    key: str,
    noisy: str = "noisy",
    test: str = "last",
    *,
    others: int = 1,
) -> np.ndarray:
    """The share of wrong labels that a method has learned, less what it gives of them
    by mistake: its test error, over the classes beside the true one.

    Args:
      noisy, test: arrays of errors, on wrong labels and in the test, f[S] or f[S, E].
    """
    unlearned, mistaken = (chosen(arrays, key, name) for name in (noisy, test))
    return 1 - unlearned - mistaken / others


def rises(arrays: Arrays, key: str) -> np.ndarray:
    """By how many points the last error is above the best epoch's, f[S]."""
    best, last = (chosen(arrays, key, name) for name in ("best", "last"))
    return 100 * (last - best)


def spread(errors: np.ndarray) -> str:
    """Mean and deviation over seeds, in %."""
    text = f"{100 * np.mean(errors):.1f}"
    return f"{text} ± {100 * np.std(errors, ddof=1):.1f}" if len(errors) > 1 else text


def radii(arrays: Arrays, keys: Sequence[str]) -> str | None:
    """The rho of each method that has a grid, and whether it ends the grid."""
    found = []
    for key in keys:
        values, at = arrays[f"{key}_rho"], index(arrays, key)
        if len(values) > 1:
            edge = " (edge of its grid)" if at in (0, len(values) - 1) else ""
            found.append(f"{key} {values[at]:g}{edge}")
    return ", ".join(found) or None


def _padded(curve: np.ndarray, length: int, value: float) -> np.ndarray:
    """A failed run's curve goes on with the worst value there is."""
    return np.concatenate([curve, np.full(length - len(curve), value)])
