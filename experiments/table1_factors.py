"""What decides the order of Table 1: one thing changed at a time.

From two classes, groups of m, a normalised ascent and a plain convolutional network:
one group of the whole batch; an unnormalised ascent; a tenth of the images at as many
steps; ten classes; a ResNet with GroupNorm, and with BatchNorm. Errors at the best
epoch by noisy validation and at the last one, each method with its own rho.

On Fashion-MNIST five seeds decide no order at the best epoch, under any factor that is
run there; `table1` has ten. For the plain network what matters is how often each image
is seen: within 630 steps it does not learn noisy labels by heart, with groups or
without, and no part of SAM is then below ERM; of a tenth of the images it learns all of
them at as many steps, and SAM, at the radius by validation, keeps most seeds from that.
The ResNet of Table 1 learns 15% of them already. `table1_rule` makes it a rule, and
chooses rho by the last epoch.
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
from sam_jax import plotting

SOURCE = "Table 1, one factor at a time"
CHANGED = "target (the order of Table 1, with a factor changed)"
RESNET = {"model.name": "preact_resnet18"}
# 1,200 images to train on for 600 steps in place of 10,800 for 630, and as many again
# to validate: ERM then fits all noisy labels.
SMALL = {
    "data.train_examples": 2400,
    "data.validation_fraction": 0.5,
    "epochs": 150,
    "schedule.warmup_epochs": 10.0,
    "eval.every_epochs": 2,
    "checkpoint.every_epochs": 150,
}
FACTORS: dict[str, dict[str, Any]] = {
    "base": {},
    "batch": {"sam.m": 0, "sam.chunk": 0},
    "unnormalized": {"sam.normalize": False},
    "small": SMALL,
    "classes": {"data.classes": (), "data.noise.fraction": 0.6},
    "group": RESNET | {"model.norm": "group"},
    "batch_norm": RESNET | {"model.norm": "batch"},
}
TITLES = {
    "base": "two classes, groups of m",
    "batch": "m = batch",
    "unnormalized": "unnormalised ascent",
    "small": "a tenth of the images",
    "classes": "ten classes, 60% noise",
    "group": "ResNet-18, GroupNorm",
    "batch_norm": "ResNet-18, BatchNorm",
}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: grid of normalised ascents; unnormalized: of the others; resnet_rho: of the
    deep networks.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    rho: tuple[float, ...] = (0.03, 0.1, 0.2)
    unnormalized: tuple[float, ...] = (0.03, 0.1, 0.3)
    resnet_rho: tuple[float, ...] = (0.03, 0.1, 0.2)
    factors: tuple[str, ...] = tuple(key for key in FACTORS if key != "small")


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        factors=("base",),
        recipe="smoke",
        changes={"model.name": "mlp"},
    ),
    "cpu": Settings(
        rho=(0.1, 0.2),
        unnormalized=(0.1, 0.3),
        resnet_rho=(0.01, 0.02, 0.05, 0.1),
        recipe="embedded",
        changes={"model.name": "conv_net", "data.validation_fraction": 0.25},
    ),
    # All five seeds choose rho: two are too few with 80% noise. Table 1 has BatchNorm.
    "fashion": Settings(
        seeds=(0, 1, 2, 3, 4),
        rho=(0.01, 0.03, 0.1, 0.3, 1.0),
        unnormalized=(0.03, 0.1, 0.3, 1.0, 3.0),
        resnet_rho=(0.003, 0.01, 0.03, 0.1, 0.3),
        factors=("base", "batch", "unnormalized", "small"),
        recipe="fashion",
        changes=comparison.PLAIN,
    ),
    "paper": Settings(changes=comparison.PLAIN),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """The four methods under every factor."""
    found, s = [], settings
    grids = {"unnormalized": s.unnormalized, "group": s.resnet_rho}
    grids["batch_norm"] = s.resnet_rho
    for factor in s.factors:
        found += comparison.from_recipe(
            two_class.get_config,
            LABELS,
            dataclasses.replace(s, rho=grids.get(factor, s.rho)),
            changes=FACTORS[factor],
            prefix=f"{factor}_",
        )
    return found


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every factor, method, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors under every factor, and whether the order of Table 1 is seen."""
    arrays: dict[str, np.ndarray] = {"factors": np.array(settings.factors)}
    for factor in settings.factors:
        some = [m for m in methods(settings) if m.key.startswith(f"{factor}_")]
        some = [m for m in some if m.key.removeprefix(f"{factor}_") in LABELS]
        arrays |= comparison.collect(
            some,
            settings.seeds,
            {k: t for k, t in trained.items() if k[0] in {m.key for m in some}},
            curves={},
        )
    return arrays


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The order of Table 1 under every factor, and what ERM learns by heart."""
    for factor in arrays["factors"]:
        if f"{factor}_erm_noisy" in arrays:
            learned = 100 * comparison.by_heart(arrays, f"{factor}_erm")
            text = f"{TITLES[factor]}: wrong labels that ERM has learned by heart (%)"
            yield Claim.mean(
                text, "target (some, for SAM to help)", None, learned, low=5
            )
        for at in ("best", "last"):
            title = f"{TITLES[factor]}, {at} epoch"
            for better, worse in (
                ("sam_derivative", "sam_direction"),
                ("sam_direction", "erm"),
                ("sam_derivative", "erm"),
                ("sam", "erm"),
            ):
                text = f"{title}: {LABELS[better]} below {LABELS[worse]}"
                pair = (f"{factor}_{key}" for key in (better, worse))
                yield comparison.lower(text, CHANGED, None, arrays, *pair, at)


def plot(arrays: Arrays) -> plotting.Figure:
    """Bars of the four methods under every factor, at the best and the last epoch."""
    factors = arrays["factors"].tolist()
    figure, axes = plotting.panels(2, len(factors), width=2.5, height=3.0)
    for i, factor in enumerate(factors):
        keys = {f"{factor}_{kind}": label for kind, label in LABELS.items()}
        for row, at in enumerate(("best", "last")):
            panel = axes[row * len(factors) + i]
            comparison_plots.draw_bars(
                panel, arrays, keys, at, ylabel=f"test error, {at} (%)"
            )
            panel.set_ylim(0, 60)
            if not row:
                panel.set_title(TITLES[factor], fontsize="medium")
    return figure
