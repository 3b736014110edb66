"""A rule for the order of Table 1, and what it predicts in a setting not yet run.

The rule, from `table1` and `table1_factors`: what the parts of SAM do is decided by
whether ERM learns its noisy labels by heart. Where it does, SAM and its direction alone
keep from it and have a smaller last error than ERM, while the derivative alone, even at
ten times the radius, gains less than half as much; where it does not, there is nothing
to prevent, and no part of SAM is below ERM.

The setting: another network, a dense one, other classes and less noise; with few images
seen often, which ERM learns by heart, and with many seen a few times at as many steps.
All is without early stopping: rho by the last validation error, and last errors.

What came out: the order did, in both cases. The derivative gained more than was said,
above half of what the direction gains, at three times its radius.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from configs import two_class
from experiments.harness import comparison, comparison_plots
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from experiments.table1 import LABELS
from experiments.table1_factors import SMALL
from sam_jax import plotting

SOURCE = "Table 1, a rule and its prediction"
RULE = "target (the rule's prediction)"
CASES: dict[str, dict[str, Any]] = {"few": SMALL, "many": {}}
TITLES = {"few": "few images, learned by heart", "many": "many images"}
FIGURES = comparison.FIGURES | {"validation": "validation_error_last"}
LEARNED, NOT_LEARNED = 20.0, 5.0  # % of the wrong labels
GAIN = 0.01  # one point: of a part over ERM where there is nothing to prevent


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM and its direction; the derivative has ten times these, since it does
    nothing below. cases: of CASES.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    rho: tuple[float, ...] = comparison.FASHION_RHO
    cases: tuple[str, ...] = tuple(CASES)


OTHER = {"model.name": "mlp", "data.noise.fraction": 0.6}
SCALES = {
    "smoke": Settings(
        seeds=(0,), rho=(0.1,), recipe="smoke", cases=("many",), changes=OTHER
    ),
    "fashion": Settings(
        recipe="fashion", changes=OTHER | {"data.classes": ("T-shirt/top", "Shirt")}
    ),
    "paper": Settings(changes={"data.classes": ("deer", "horse")}),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and the parts of SAM in every case."""
    larger = tuple(round(10 * rho, 6) for rho in settings.rho)
    return [
        method
        for case in settings.cases
        for method in comparison.from_recipe(
            two_class.get_config,
            LABELS,
            settings,
            grids={"sam_derivative": larger},
            changes=CASES[case],
            prefix=f"{case}_",
        )
    ]


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every case, method, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Last errors, and those of ERM on training labels that are wrong."""
    found = methods(settings)
    figures = comparison.collect(
        found, settings.seeds, trained, figures=FIGURES, curves={}
    )
    return {**figures, "cases": np.array(settings.cases)}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Whether ERM learns by heart, and the order that follows."""
    for case in arrays["cases"].tolist():
        learned = 100 * by_heart(arrays, f"{case}_erm")
        text = f"{TITLES[case]}: labels that ERM has learned by heart (% of wrong ones)"
        limits = {"low": LEARNED} if case == "few" else {"high": NOT_LEARNED}
        yield Claim.mean(text, "control", None, learned, **limits)
        yield from (_prevented if case == "few" else _not_needed)(arrays)


def by_heart(arrays: Arrays, key: str) -> np.ndarray:
    """The share of wrong labels that a method has learned, less the share of images
    that it gets wrong anyhow: its test error. f[S]
    """
    unlearned, test = (comparison.chosen(arrays, key, f) for f in ("noisy", "last"))
    return 1 - unlearned - test


def _prevented(arrays: Arrays) -> Iterator[Claim]:
    """What the rule says where ERM learns by heart."""
    order = (
        ("sam", "erm"),
        ("sam_direction", "erm"),
        ("sam_direction", "sam_derivative"),
    )
    for pair in order:
        text = f"{TITLES['few']}, last epoch: {{}} below {{}}"
        text = text.format(*map(LABELS.get, pair))
        keys = (f"few_{kind}" for kind in pair)
        yield comparison.lower(text, RULE, None, arrays, *keys, "last")
    erm, direction, derivative = (
        100 * comparison.chosen(arrays, f"few_{kind}", "last")
        for kind in ("erm", "sam_direction", "sam_derivative")
    )
    gain, half = erm - derivative, (erm - direction) / 2
    text = f"{TITLES['few']}, last epoch: gain of the derivative over half of the "
    text += "direction's"
    words = f"{gain.mean():.1f}, of {2 * half.mean():.1f}"
    yield Claim.mean(
        f"{text} (points)", RULE, None, gain - half, high=0, measured=words
    )


def _not_needed(arrays: Arrays) -> Iterator[Claim]:
    """What it says where ERM does not."""
    for kind in [key for key in LABELS if key != "erm"]:
        text = f"{TITLES['many']}, last epoch: {LABELS[kind]} at most one below ERM"
        pair = "many_erm", f"many_{kind}"
        yield comparison.lower(text, RULE, None, arrays, *pair, "last", margin=-GAIN)


def plot(arrays: Arrays) -> plotting.Figure:
    """Bars of the four methods, at the last epoch."""
    cases = arrays["cases"].tolist()
    figure, axes = plotting.panels(1, len(cases))
    for panel, case in zip(axes, cases, strict=True):
        keys = {f"{case}_{kind}": label for kind, label in LABELS.items()}
        label = "test error, last epoch (%)"
        comparison_plots.draw_bars(panel, arrays, keys, "last", ylabel=label)
        panel.set_title(TITLES[case])
    return figure
