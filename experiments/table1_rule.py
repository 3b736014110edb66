"""A rule for the order of Table 1's methods, and what it predicts in a new setting.

The rule, from `table1` and an earlier `table1_factors`, on five seeds: what the parts
of SAM do is decided by whether ERM learns its noisy labels by heart. Where it does, SAM
and its direction alone keep from it and have a smaller last error than ERM, while the
derivative alone, even at ten times the radius, gains less than half as much; where it
does not, there is nothing to prevent, and no part of SAM is below ERM.

The setting: another network, a dense one, other classes and less noise; with few images
seen often, of whose wrong labels ERM learns a third, and with many seen a few times at
as many steps. All is without early stopping: rho by the last validation error, and last
errors. Table 1's own are those of the best epoch.

What came out: with few images the order did; the derivative gained more than was said,
above half of what the direction gains. With many images SAM and its direction cost half
a point to a point. (The derivative's two least radii are from a second run.)
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import two_class
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from experiments.table1 import LABELS
from experiments.table1_factors import SMALL
from sam_jax import plotting

SOURCE = "Table 1, a rule and its prediction"
RULE = "target (the rule's prediction)"
TITLES = {"few": "few images", "many": "many images"}
FIGURES = comparison.FIGURES | {"validation": "validation_error_last"}
LEARNED, NOT_LEARNED = 20.0, 5.0  # % of the wrong labels
GAIN = 0.01  # one point: of a part over ERM where there is nothing to prevent


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM and its direction; the derivative, which needs more, has these and
    ten times these. cases: of TITLES. part: whether few images are SMALL, a part of
    those there are.
    """

    seeds: tuple[int, ...] = tuple(range(10))
    rho: tuple[float, ...] = comparison.FASHION_RHO
    cases: tuple[str, ...] = tuple(TITLES)
    part: bool = True


OTHER = {"model.name": "mlp", "data.noise.fraction": 0.6}
SCALES = {
    "smoke": Settings(
        seeds=(0,), rho=(0.1,), recipe="smoke", cases=("many",), changes=OTHER
    ),
    # 287 images of two digits: these are few, and there are not many.
    "cpu": Settings(
        recipe="embedded",
        cases=("few",),
        part=False,
        changes=OTHER | {"data.validation_fraction": 0.25},
    ),
    "fashion": Settings(
        recipe="fashion", changes=OTHER | {"data.classes": ("T-shirt/top", "Shirt")}
    ),
    # 17 epochs of 9,000 images are as many steps as 150 of 1,200.
    "paper": Settings(
        changes=OTHER
        | {
            "data.classes": ("deer", "horse"),
            "epochs": 17,
            "schedule.warmup_epochs": 1.0,
        }
    ),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and the parts of SAM in every case."""
    radii = sorted({*settings.rho, *(round(10 * rho, 6) for rho in settings.rho)})
    return [
        method
        for case in settings.cases
        for method in comparison.from_recipe(
            two_class.get_config,
            LABELS,
            settings,
            grids={"sam_derivative": radii},
            changes=SMALL if case == "few" and settings.part else {},
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
        learned = 100 * comparison.by_heart(arrays, f"{case}_erm")
        text = f"{TITLES[case]}: wrong labels that ERM has learned by heart (%)"
        limits = {"low": LEARNED} if case == "few" else {"high": NOT_LEARNED}
        yield Claim.mean(text, "control", None, learned, **limits)
        yield from (_prevented if case == "few" else _not_needed)(arrays)


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
        yield pairs.lower(text, RULE, None, arrays, *keys, "last")
    erm, direction, derivative = (
        100 * comparison.chosen(arrays, f"few_{kind}", "last")
        for kind in ("erm", "sam_direction", "sam_derivative")
    )
    gain, half = erm - derivative, (erm - direction) / 2
    text = f"{TITLES['few']}, last epoch: the derivative gains less than half of what "
    text += "the direction does"
    words = f"{gain.mean():.1f}, of {2 * half.mean():.1f}"
    yield Claim.mean(
        f"{text} (points)", RULE, None, gain - half, high=0, measured=words
    )


def _not_needed(arrays: Arrays) -> Iterator[Claim]:
    """What it says where ERM does not."""
    for kind in [key for key in LABELS if key != "erm"]:
        text = f"{TITLES['many']}, last epoch: ERM at most {100 * GAIN:g} point above "
        text += LABELS[kind]
        pair = "many_erm", f"many_{kind}"
        yield pairs.lower(text, RULE, None, arrays, *pair, "last", margin=-GAIN)


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
