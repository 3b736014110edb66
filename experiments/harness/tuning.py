"""Methods that runs of other seeds tune, whose candidates may differ in several keys.

What is saved of a method `key`, over candidates and tuning seeds: key_tuning f[C, T],
the validation errors, and of every key that differs, such as sam.rho, key_tuned_rho
f[C].
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.harness import comparison
from experiments.harness.claims import Arrays
from experiments.harness.runs import Key, PlannedRun, TrainedRun, Trial, changed, table

Candidate = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """key: of the method. config: without what is tuned. figure: of a run's summary,
    least for the best. seeds: that choose. candidates: keys to change, {"sam.rho": .1,
    "sam.gamma": .9}; a single one needs no tuning.
    """

    key: str
    config: ConfigDict
    figure: str
    seeds: Sequence[int]
    candidates: Sequence[Candidate] = ({},)

    @property
    def trials(self) -> tuple[tuple[Key, ...], ...]:
        """The keys of the runs that choose, by candidate."""
        places = range(len(self.candidates))
        key = f"{self.key}_tuning"
        return tuple(tuple((key, i, seed) for seed in self.seeds) for i in places)


def trials(method: Tuned) -> dict[Key, PlannedRun]:
    """The runs that choose: every candidate on all tuning seeds."""
    if len(method.candidates) == 1:
        return {}
    return {
        key: PlannedRun(changed(method.config, {**candidate, "seed": key[-1]}))
        for candidate, keys in zip(method.candidates, method.trials, strict=True)
        for key in keys
    }


def plan(
    method: Tuned,
    seeds: Sequence[int],
    *,
    key: str | None = None,
    changes: Candidate | None = None,
) -> dict[Key, PlannedRun]:
    """The runs that are compared, (key, candidate, seed): of the candidate chosen.

    Args:
      key, changes: of runs with the same choice, and other keys changed besides.
    """
    several = len(method.candidates) > 1
    return {
        (key or method.key, i, seed): PlannedRun(
            changed(method.config, {**candidate, **(changes or {}), "seed": seed}),
            trial=Trial(method.trials, method.figure, i) if several else None,
        )
        for i, candidate in enumerate(method.candidates)
        for seed in seeds
    }


def best(method: Tuned, trained: Mapping[Key, TrainedRun]) -> int:
    """The candidate of least mean validation error, by place."""
    if len(method.candidates) == 1:
        return 0
    return int(comparison.select(_errors(method, trained)))


def collect(method: Tuned, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """The arrays of a method; none without tuning."""
    if len(method.candidates) == 1:
        return {}
    arrays = {f"{method.key}_tuning": _errors(method, trained)}
    failed = [[not trained[key].summary for key in keys] for keys in method.trials]
    arrays[f"{method.key}_tuning_failed"] = np.array(failed)
    for option in method.candidates[0]:
        values = [candidate[option] for candidate in method.candidates]
        name = f"{method.key}_tuned_{option.split('.')[-1]}"
        arrays[name] = np.array(values, float)
    return arrays


def words(arrays: Arrays, key: str) -> str | None:
    """What was chosen for a method, and where that ends its grid."""
    if f"{key}_tuning" not in arrays:
        return None
    at, found = int(comparison.select(arrays[f"{key}_tuning"])), []
    for name, values in arrays.items():
        if name.startswith(f"{key}_tuned_"):
            option, value = name.removeprefix(f"{key}_tuned_"), values[at]
            several = len(set(values)) > 2
            ends = several and value in (values.min(), values.max())
            edge = " (edge of its grid)" * ends + " (of two)" * (not several)
            found.append(f"{option} {value:g}{edge}")
    return f"{key} {', '.join(found)}"


def _errors(method: Tuned, trained: Mapping[Key, TrainedRun]) -> np.ndarray:
    axes = [f"{method.key}_tuning"], range(len(method.candidates)), method.seeds
    return table(trained, method.figure, *axes)[0]
