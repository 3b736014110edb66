"""What the experiments on adversarial training share: methods, arrays, claims."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from configs import cifar10_at
from experiments.harness import comparison, comparison_plots
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting

# key -> label, variant of configs/cifar10_at.py
METHODS = {
    "at": ("adversarial training", "at"),
    "sam": ("adversarial training + SAM", "sam"),
    "gce": ("adversarial training, GCE", "gce"),
    "pairing": ("adversarial training + pairing", "pairing"),
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


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM, by robust validation error. recipe: a variant after the method's."""

    seeds: tuple[int, ...] = (0, 1, 2)
    rho: tuple[float, ...] = (0.05, 0.1, 0.2)


def scales(paper: Settings) -> dict[str, Settings]:
    """smoke and cpu beside the paper's."""
    return {
        "smoke": Settings(seeds=(0,), rho=(0.1,), recipe="smoke"),
        "cpu": Settings(rho=(0.05, 0.1), recipe="cpu"),
        "paper": paper,
    }


def experiment(
    keys: Sequence[str], judge: Callable[[Arrays], Iterable[Claim]]
) -> tuple[Callable, Callable, Callable]:
    """The `runs`, `run` and `plot` of an experiment on some of METHODS.

    Args:
      judge: arrays -> claims.
    """

    def runs(settings: Settings) -> dict[Key, PlannedRun]:
        return comparison.plan(methods(settings, keys), settings.seeds)

    def run(
        settings: Settings, trained: Mapping[Key, TrainedRun]
    ) -> tuple[Arrays, list[Claim]]:
        arrays = collect(settings, keys, trained)
        return arrays, list(judge(arrays))

    def plot(arrays: Arrays) -> plotting.Figure:
        return draw(arrays, keys)

    return runs, run, plot


def methods(settings: Settings, keys: Sequence[str]) -> list[comparison.Method]:
    """Methods of METHODS, SAM with its grid."""
    found = []
    for key in keys:
        label, variant = METHODS[key]
        names = variants(variant, settings.recipe)
        config = changed(cifar10_at.get_config(names), settings.changes)
        rho = settings.rho if key == "sam" else ()
        found.append(comparison.Method(key, label, config, rho))
    return found


def collect(
    settings: Settings,
    keys: Sequence[str],
    trained: Mapping[Key, TrainedRun],
) -> Arrays:
    """Robust errors, by `comparison.collect`."""
    return comparison.collect(
        methods(settings, keys),
        settings.seeds,
        trained,
        figures=FIGURES,
        curves=CURVES,
    )


def overfits(arrays: Arrays, key: str, source: str) -> Claim:
    """The claim that the last robust error is above the best epoch's."""
    text = f"{METHODS[key][0]} overfits: last robust test error above the best epoch's"
    rise = comparison.rise(arrays, key)
    return Claim(f"{text} (points)", source, "> 0", rise, "> 0", rise > 0)


def mitigates(arrays: Arrays, key: str, source: str) -> Claim:
    """The claim that a method overfits less than plain adversarial training."""
    rise = {name: comparison.rise(arrays, name) for name in ("at", key)}
    text = f"{METHODS[key][0]} overfits less: rise of the robust test error (points)"
    measured = f"{rise[key]:.1f} against {rise['at']:.1f}"
    return Claim(text, source, None, measured, "less", rise[key] < rise["at"])


def below(arrays: Arrays, key: str, name: str, source: str, paper: Any) -> Claim:
    """The claim that a method's robust error is below adversarial training's."""
    when = {"best": "best epoch by validation", "last": "last epoch"}[name]
    errors = (comparison.chosen(arrays, k, name) for k in (key, "at"))
    text = f"{METHODS[key][0]} below plain: robust test error, {when}"
    return comparison.lower(text, source, paper, *errors)


def far_below_clean(arrays: Arrays) -> Iterator[Claim]:
    """The claim that adversarial training helps at all, where clean runs are there."""
    errors = (comparison.chosen(arrays, key, "last") for key in ("at", "clean"))
    text = "adversarial training 30 points below ordinary: robust test error, last"
    yield comparison.lower(text, "target", None, *errors, margin=0.30)
    error = float(comparison.chosen(arrays, "at", "last").mean())
    text = "the radius leaves a robust error of 20-70%: adversarial training, last"
    yield Claim(text, "target", None, error, "0.2-0.7", 0.2 <= error <= 0.7)


def draw(arrays: Arrays, keys: Sequence[str]) -> plotting.Figure:
    """Robust test error over epochs, and that of the training set."""
    figure, (test, train) = plotting.panels(1, 2)
    labels = {key: METHODS[key][0] for key in keys}
    comparison_plots.draw_curves(test, arrays, labels, ylabel="robust test error (%)")
    comparison_plots.draw_curves(
        train, arrays, labels, "train", ylabel="robust train error (%)"
    )
    return figure
