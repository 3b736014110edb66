"""What the experiments on adversarial training share: methods, arrays, claims."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from configs import cifar10_at
from experiments.harness import comparison, comparison_plots, grids, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from experiments.harness.statistics import UNDECIDED
from sam_jax import plotting

SHARED = "adversarial"  # the folder of their runs, most of which are the same
# key -> label, variant of configs/cifar10_at.py
METHODS = {
    "at": ("adversarial training", "at"),
    "sam": ("adversarial training + SAM", "sam"),
    "awp": ("adversarial training + AWP", "awp"),
    "averaged": ("adversarial training, averaged weights", "ema"),
    "gce": ("adversarial training, GCE", "gce"),
    "gce_7": ("adversarial training, GCE of q = .7", "gce"),
    "gce_3": ("adversarial training, GCE of q = .3", "gce"),
    "pairing": ("adversarial training + pairing", "pairing"),
    "pairing_tenth": ("adversarial training + pairing, lambda .1", "pairing_tenth"),
    "clean": ("ordinary training", "clean"),
}
FIGURES = {
    "validation": "validation_robust_error_best",
    "best": "test_robust_error_best",
    "last": "test_robust_error_last",
    "clean_last": "test_error_last",
    "train_last": "train_robust_error_last",
}
CURVES = {"curve": "test_robust_error", "train": "train_robust_error"}
AVERAGED = ("averaged",)  # methods whose errors are those of the weights' average
AVERAGE = "ema_"  # before the names of such errors
# The pairing term enters at this part of the epochs; until then they are plain.
SINCE = {"pairing": 0.5, "pairing_tenth": 0.5}
# Keys of a method that its variant of the recipe has otherwise.
CHANGES = {"gce_7": {"loss.q": 0.7}, "gce_3": {"loss.q": 0.3}}
# Radii as multiples of SAM's; methods that are not here have none.
FACTORS = {"sam": 1.0, "awp": grids.FACTORS["layerwise_sam"]}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM, by robust validation error; AWP's is a multiple of it. recipe: a
    variant after the method's.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    rho: tuple[float, ...] = (0.05, 0.1, 0.2)


S = TypeVar("S", bound=Settings)
FASHION: dict[str, Any] = {
    "seeds": comparison.FASHION_SEEDS,
    "rho": (0.01, 0.03, 0.1, 0.3),
    "tuning": comparison.FASHION_TUNING,
    "recipe": "fashion",
}


def scales(paper: S) -> dict[str, S]:
    """smoke, cpu and fashion beside the paper's, and of its class."""
    return {
        "smoke": dataclasses.replace(paper, seeds=(0,), rho=(0.1,), recipe="smoke"),
        "cpu": dataclasses.replace(paper, rho=(0.05, 0.1), recipe="cpu"),
        "fashion": dataclasses.replace(paper, **FASHION),
        "paper": paper,
    }


def experiment(keys: Sequence[str]) -> tuple[Callable, Callable, Callable]:
    """The `runs`, `run` and `plot` of an experiment on some of METHODS."""

    def runs(settings: Settings) -> dict[Key, PlannedRun]:
        return plan(methods(settings, keys), settings)

    def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
        return collect(settings, keys, trained)

    def plot(arrays: Arrays) -> plotting.Figure:
        return draw(arrays, keys)

    return runs, run, plot


def plan(
    methods: Sequence[comparison.Method], settings: Settings
) -> dict[Key, PlannedRun]:
    """One run a method, rho and seed; rho by the robust validation error."""
    seeds, tuning = settings.seeds, settings.tuning
    return comparison.plan(methods, seeds, tuning, figure=FIGURES["validation"])


def methods(settings: Settings, keys: Sequence[str]) -> list[comparison.Method]:
    """Methods of METHODS, each with its grid."""
    found = []
    for key in keys:
        label, variant = METHODS[key]
        names = variants(variant, settings.recipe)
        changes = {**CHANGES.get(key, {}), **settings.changes}
        config = changed(cifar10_at.get_config(names), changes)
        factor = FACTORS.get(key)
        rho = [round(factor * radius, 6) for radius in settings.rho] if factor else ()
        found.append(comparison.Method(key, label, config, rho))
    return found


def collect(
    settings: Settings,
    keys: Sequence[str],
    trained: Mapping[Key, TrainedRun],
) -> Arrays:
    """Robust errors, by `comparison.collect`; of AVERAGED those of the average."""
    arrays: dict[str, np.ndarray] = {}
    for averaged in (False, True):
        own = [key for key in keys if (key in AVERAGED) == averaged]
        if not own:
            continue
        prefix = AVERAGE * averaged
        figures, curves = (
            {name: prefix + figure for name, figure in names.items()}
            for names in (FIGURES, CURVES)
        )
        runs = {key: run for key, run in trained.items() if key[0] in own}
        arrays |= comparison.collect(
            methods(settings, own), settings.seeds, runs, figures=figures, curves=curves
        )
    return arrays


def overfits(arrays: Arrays, key: str, source: str) -> Claim:
    """The claim that the last robust error is above the best epoch's."""
    text = f"{METHODS[key][0]} overfits: last robust test error above the best epoch's"
    rise, rho = comparison.rises(arrays, key), comparison.radii(arrays, [key])
    return Claim.mean(f"{text} (points)", source, "> 0", rise, low=0, rho=rho)


def mitigates(arrays: Arrays, key: str, source: str) -> Claim:
    """The claim that a method overfits less than plain adversarial training."""
    rise, plain = (comparison.rises(arrays, name) for name in (key, "at"))
    text = f"{METHODS[key][0]} overfits less: rise of the robust test error (points)"
    measured = f"{rise.mean():.1f} against {plain.mean():.1f}"
    rho = comparison.radii(arrays, [key])
    claim = Claim.mean(
        text, source, "less", rise - plain, high=0, measured=measured, rho=rho
    )
    return if_fitted(arrays, key, claim)


def if_fitted(arrays: Arrays, key: str, claim: Claim) -> Claim:
    """A claim on a method, undecided for one that fits the training images less than
    plain adversarial training fits those of the test.
    """
    left = comparison.chosen(arrays, key, "train_last").mean()
    if claim.holds and left > comparison.chosen(arrays, "at", "best").mean():
        words = f"{claim.measured}; but {100 * left:.0f} % of training are not fitted"
        return dataclasses.replace(claim, measured=words, verdict=UNDECIDED)
    return claim


def below(arrays: Arrays, key: str, at: str, source: str, paper: Any) -> Claim:
    """The claim that a method's robust error is below adversarial training's."""
    when = {"best": "best epoch by validation", "last": "last epoch"}[at]
    text = f"{METHODS[key][0]} below plain: robust test error, {when}"
    return pairs.lower(text, source, paper, arrays, key, "at", at)


def far_below_clean(arrays: Arrays) -> Iterator[Claim]:
    """The claim that adversarial training helps at all, where clean runs are there."""
    text = "adversarial training 30 points below ordinary: robust test error, last"
    yield pairs.lower(text, "target", None, arrays, "at", "clean", "last", margin=0.30)
    error = 100 * comparison.chosen(arrays, "at", "last")
    text = "the radius leaves a robust error of 20-70%: adversarial training, last"
    yield Claim.mean(text, "target", None, error, low=20, high=70)


def draw(arrays: Arrays, keys: Sequence[str]) -> plotting.Figure:
    """Robust test error over epochs, of methods that attack in training from near and
    of all; and that of the training set.
    """
    figure, (near, test, train) = plotting.panels(1, 3)
    epochs = arrays["epoch"][-1]
    since = {key: SINCE[key] * epochs for key in keys if key in SINCE}
    style: dict[str, Any] = {"since": since}
    labels = {key: METHODS[key][0] for key in keys}
    what = "robust test error (%)"
    comparison_plots.draw_curves(test, arrays, labels, ylabel=what, **style)
    style["legend"] = False
    comparison_plots.draw_curves(near, arrays, labels, ylabel=what, **style)
    attacked = [key for key in keys if key != "clean"]
    comparison_plots.zoom(near, arrays, attacked, epochs / 2)
    what = "robust train error (%)"
    comparison_plots.draw_curves(train, arrays, labels, "train", ylabel=what, **style)
    return figure
