"""Variants of SAM at equal steps, equal gradients and in equal time.

Clean labels and 60% label noise on images, and the small GPT of `experiments/gpt.py`.
Tuned is the run at equal gradients: a variant of g gradients a step takes 2 / g times
SAM's epochs, and ERM twice as many. All variants have as many candidates, those of
`harness.grids`: four radii, or the middle two with two values of the knob that a
variant has of its own. The least validation error of two seeds wins, and five others
make the table, so that no seed of the table has chosen anything. That is 13 runs a
variant; every candidate on all five seeds would be 20, and would not leave a night's
time for three places. At equal steps the same choice takes SAM's epochs. In equal time
the run at equal gradients counts up to the seconds of SAM's, by steps timed in turn.
A forward pass is a third of a gradient; products with the Hessian are not counted, and
show in the seconds.

What the last weights measure in sharpness stands beside, and whether it orders the test
errors of all runs (Andriushchenko et al. 2023).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from configs import cifar10_noise
from configs import gpt as text
from experiments import gpt
from experiments.harness import (
    comparison,
    comparison_plots,
    equal_cost,
    final_sharpness,
    grids,
    statistics,
    step_times,
    tuning,
)
from experiments.harness.claims import Arrays, Claim
from experiments.harness.equal_cost import PLACES, at_equal, last_errors
from experiments.harness.final_sharpness import MEASURES
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting
from sam_jax.transforms import VARIANTS

SOURCE = "Equal cost (Sec. 1)"
# Variants that need what these runs have not, an ascent batch, rare classes or stored
# outputs, and an ablation of Table 1 that has an experiment of its own.
LEFT_OUT = {"max_sum", "imb_sam", "focal_sam", "saf", "sam_derivative"}
table = equal_cost.table  # of all variants, for the report
KINDS = tuple(name for name in VARIANTS if name not in LEFT_OUT)


NOISE = {"clean": 0.0, "noisy": 0.6}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: SAM's radii on images. tuning_seeds: that choose, and are not compared.
    kinds: variants beside ERM, SAM among them. places: of PLACES. gpt: the scale of
    `experiments.gpt` whose network and text GPT's are. gpt_rho: SAM's radii there; of
    gpt's own, from .003 up, nearly all variants took the least. examples: that
    sharpness is measured on.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seeds: tuple[int, ...] = (5, 6)
    rho: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    kinds: tuple[str, ...] = KINDS
    places: tuple[str, ...] = tuple(PLACES)
    gpt: str = "cpu"
    gpt_rho: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03)
    examples: int = 128


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        tuning_seeds=(1,),
        rho=(0.05, 0.1),
        kinds=("sam",),
        places=("noisy",),
        gpt="smoke",
        examples=16,
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 2},
    ),
    "cpu": Settings(
        seeds=(0, 1, 2),
        places=("noisy",),
        recipe="embedded",
        changes=comparison.PLAIN,
    ),
    # An evaluation is on all test images, and takes as long as an epoch of ERM.
    "fashion": Settings(
        places=("clean", "noisy", "gpt"),
        recipe="fashion",
        changes={**comparison.PLAIN, "eval.every_epochs": 2},
    ),
    # GPT-2 for every variant is left out: it would take a cluster of its own.
    "paper": Settings(rho=(0.05, 0.1, 0.2, 0.4), places=("clean", "noisy")),
}


def kinds(settings: Settings) -> tuple[str, ...]:
    """ERM and the variants."""
    return ("erm", *settings.kinds)


def base(settings: Settings, place: str) -> tuple[ConfigDict, tuple[float, ...]]:
    """The recipe of a place, and SAM's radii there."""
    if place == "gpt":
        own = gpt.SCALES[settings.gpt]
        config = text.get_config(variants(own.recipe))
        return changed(config, own.changes), settings.gpt_rho
    config = cifar10_noise.get_config(variants(settings.recipe))
    noise = {"data.noise.fraction": NOISE[place]}
    return changed(config, {**settings.changes, **noise}), settings.rho


def tuned(settings: Settings, place: str, kind: str) -> tuning.Tuned:
    """A variant at equal gradients, and what it is tuned over."""
    config, radii = base(settings, place)
    epochs = round(config.epochs * 2 / grids.gradients(kind))
    return tuning.Tuned(
        f"{place}_{kind}",
        changed(config, {"sam.kind": kind, "epochs": epochs}),
        PLACES[place].figures["validation"],
        settings.tuning_seeds,
        grids.candidates(kind, radii),
    )


def lengths(settings: Settings, place: str, kind: str) -> dict[str, int]:
    """key -> epochs of the methods that a variant is compared as: at equal gradients,
    and at equal steps where that differs.
    """
    epochs, own = base(settings, place)[0].epochs, tuned(settings, place, kind)
    found = {own.key: own.config.epochs}
    return found if epochs in found.values() else {**found, f"{own.key}_steps": epochs}


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Those that tune every variant, and those of the table, as it was tuned; the
    sharpness of the latter is measured where they are trained.
    """
    measured = final_sharpness.measurement(_options(settings))
    found: dict[Key, PlannedRun] = {}
    for place, kind in itertools.product(settings.places, kinds(settings)):
        own = tuned(settings, place, kind)
        found |= tuning.trials(own)
        for key, epochs in lengths(settings, place, kind).items():
            changes = {"epochs": epochs}
            table = tuning.plan(own, settings.seeds, key=key, changes=changes)
            if key == own.key:
                table = {k: p._replace(then=measured) for k, p in table.items()}
            found |= table
    return found


def kept(settings: Settings) -> dict[Key, PlannedRun]:
    """Of all places: each takes a night, and may follow."""
    return runs(dataclasses.replace(settings, places=tuple(PLACES)))


def _options(settings: Settings) -> final_sharpness.Options:
    return final_sharpness.Options(examples=settings.examples)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all methods, seconds of their steps, sharpness of their last weights,
    and Kendall's tau of each measure with the test error of the last epoch.
    """
    arrays: dict[str, Any] = {"kinds": np.array(settings.kinds)}
    arrays["places"] = np.array(settings.places)
    for place in settings.places:
        configs: dict[str, ConfigDict] = {}
        last: dict[str, list[TrainedRun]] = {}
        for kind in kinds(settings):
            own = tuned(settings, place, kind)
            at = tuning.best(own, trained)
            configs[own.key] = changed(own.config, own.candidates[at])
            last[own.key] = [trained[own.key, at, seed] for seed in settings.seeds]
            arrays |= tuning.collect(own, trained)
            for key in lengths(settings, place, kind):
                arrays |= _errors(settings, place, key, configs[own.key], at, trained)
        least = step_times.least(configs)
        arrays |= {f"{key}_seconds": np.array(value) for key, value in least.items()}
        arrays |= final_sharpness.collect(last, _options(settings))
        arrays[f"{place}_tau"] = _correlations(arrays, list(configs))
    return arrays


def _errors(
    settings: Settings,
    place: str,
    key: str,
    config: ConfigDict,
    at: int,
    trained: Mapping[Key, TrainedRun],
) -> Arrays:
    """What `comparison` saves of a method at its candidate, and its epochs."""
    method = comparison.Method(key, key, config)
    own = {
        (key, config.sam.rho, seed): trained[key, at, seed] for seed in settings.seeds
    }
    figures, curves = PLACES[place].figures, PLACES[place].curves
    arrays = dict(
        comparison.collect(
            [method], settings.seeds, own, figures=figures, curves=curves
        )
    )
    arrays[f"{key}_epoch"] = arrays.pop("epoch")
    arrays[f"{key}_failed"] = np.array([not one.summary for one in own.values()])
    return arrays


def _correlations(arrays: Arrays, keys: list[str]) -> np.ndarray:
    """Kendall's tau of every measure with the last test error, and its interval,
    f[measures, 3]; runs that failed are left out.
    """
    failed = np.stack([arrays[f"{key}_failed"] for key in keys])
    errors = np.stack([comparison.chosen(arrays, key, "last") for key in keys])
    rows = []
    for name in MEASURES:
        values = np.stack([arrays[f"{key}_{name}"] for key in keys])
        values = np.where(failed, np.nan, values)
        tau, interval = statistics.of_rank_correlation(values, errors)
        rows.append([tau, *interval])
    return np.array(rows)


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every variant below ERM, and below SAM, at equal gradients, seconds and steps,
    and at the last epoch; and every measure of sharpness larger where the test error
    is, of all methods, and of those of one length.
    """
    for place in map(str, arrays["places"]):
        for kind in map(str, arrays["kinds"]):
            for other in ("erm", "sam"):
                if kind != other:
                    yield from equal_cost.below(arrays, place, kind, other)
        every = [f"{place}_{kind}" for kind in ("erm", *map(str, arrays["kinds"]))]
        lengths = {key: arrays[f"{key}_epoch"][-1] for key in every}
        alike = [key for key in every if lengths[key] == lengths[f"{place}_sam"]]
        yield from equal_cost.ordered(
            arrays, place, "all methods", arrays[f"{place}_tau"]
        )
        if 1 < len(alike) < len(every):
            taus = _correlations(arrays, alike)
            yield from equal_cost.ordered(
                arrays, place, "methods of SAM's epochs", taus
            )


def plot(arrays: Arrays) -> plotting.Figure:
    """Of every place: errors in equal time, those at the end of equal gradients with
    the time that takes, and rank correlations.
    """
    places = {p: PLACES[p] for p in map(str, arrays["places"])}
    every = ["erm", *map(str, arrays["kinds"])]
    height = 1.2 + 0.2 * len(every)
    figure, axes = plotting.panels(len(places), 3, width=3.9, height=height)
    rows = np.reshape(np.array(axes, object), (len(places), 3))
    for row, (name, place) in zip(rows, places.items(), strict=True):
        known = {k: place.scale * at_equal(arrays, name, k, "seconds") for k in every}
        last = {k: place.scale * last_errors(arrays, name, k) for k in every}
        seconds = {k: float(arrays[f"{name}_{k}_seconds"]) for k in every}
        epochs = {k: int(arrays[f"{name}_{k}_epoch"][-1]) for k in every}
        cost = [f"{seconds[k] * epochs[k] / seconds['erm']:.1f}" for k in every]
        draw = comparison_plots.draw_errors
        draw(row[0], known, every, place.unit)
        row[0].set_title(f"{place.title}, in the time of SAM's run", loc="right")
        draw(row[1], last, cost, place.unit.replace("best", "last"))
        row[1].set_title("at the end of equal gradients")
        row[1].set_ylabel("time of the run, in epochs of ERM")
        comparison_plots.draw_correlations(row[2], arrays[f"{name}_tau"], MEASURES)
        row[2].set_title("last test error and sharpness")
    return figure
