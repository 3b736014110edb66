"""ERM and SAM on clean labels, and one after the other for the last tenth of epochs.

Both fit the training set. SAM for the last tenth alone, from the checkpoint of ERM and
with a larger rho, is to improve on ERM; ERM for the last tenth is to keep what SAM has
found.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from configs import cifar10
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting

SOURCE = "Figure 2"
LABELS = {
    "erm": "ERM",
    "sam": "SAM",
    "erm_to_sam": "ERM → SAM",
    "sam_to_erm": "SAM → ERM",
}
PARENTS = {"erm_to_sam": "erm", "sam_to_erm": "sam"}
CURVES = {"curve": "test_error", "loss": "train_loss"}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM from the start. switch_rho: of SAM in the last tenth."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4)
    switch_rho: tuple[float, ...] = (0.2,)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 10},
    ),
    "cpu": Settings(
        seeds=(0, 1, 2), rho=(0.05, 0.1), switch_rho=(0.2,), recipe="embedded"
    ),
    # The ResNet with BatchNorm: on clean images SAM did nothing for the plain network,
    # at any rho, so there was nothing to switch on or off. Of the switch 3 and 10 were
    # tried after 1, until then the largest, had been chosen by validation.
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS,
        rho=comparison.FASHION_RHO,
        switch_rho=(*comparison.FASHION_RHO, 3.0, 10.0),
        tuning=comparison.FASHION_TUNING,
        recipe="fashion",
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and SAM from the start, and each after the other has done nine tenths."""
    recipe, found = settings.recipe, []
    for key, label in LABELS.items():
        kind = PARENTS.get(key, key)
        config = cifar10.get_config(variants(kind, recipe))
        config = changed(config, settings.changes)
        tenth = config.epochs // 10
        # The checkpoint at nine tenths is the start of the switched run.
        config.checkpoint.update(every_epochs=tenth, keep=2)
        if key == "erm_to_sam":
            config.sam.update(kind="sam", start_epoch=config.epochs - tenth)
        if key == "sam_to_erm":
            config.sam.stop_epoch = config.epochs - tenth
        grids = {"erm": (), "erm_to_sam": settings.switch_rho}
        found.append(
            comparison.Method(key, label, config, grids.get(key, settings.rho))
        )
    return found


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed; the switched ones go on from the others."""
    found = comparison.plan(methods(settings), settings.seeds, settings.tuning)
    plain = [key for key in found if key[0] == "erm"]
    for (name, rho, seed), planned in found.items():
        if name in PARENTS:
            erm = next(key for key in plain if key[2] == seed)
            parent = erm if name == "erm_to_sam" else ("sam", rho, seed)
            sam = planned.config.sam
            switch = sam.start_epoch or sam.stop_epoch
            # At SAM's own rho, since there is no other run to go on from.
            trial = planned.trial if name == "erm_to_sam" else found[parent].trial
            found[name, rho, seed] = PlannedRun(planned.config, parent, switch, trial)
    return found


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Curves of all runs, and what each switch does."""
    figures = comparison.FIGURES | {"train_loss": "train_loss_last"}
    arrays = comparison.collect(
        methods(settings), settings.seeds, trained, figures=figures, curves=CURVES
    )
    first = methods(settings)[-1].config.sam.stop_epoch
    return {**arrays, "switch": np.array(first)}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """What SAM and each switch do, and whether both fit the training set."""
    paper = "3.76 against 5.03"
    for text, value, pair, margin in (
        ("SAM below ERM", paper, ("sam", "erm"), 0.0),
        ("ERM → SAM below ERM", None, ("erm_to_sam", "erm"), 0.0),
        ("SAM → ERM keeps what SAM found, to .2", None, ("sam_to_erm", "sam"), -0.002),
    ):
        text = f"{text}: test error, last epoch"
        yield pairs.lower(text, "Fig. 2", value, arrays, *pair, "last", margin=margin)
    for key, paper in (("erm", 0.0012), ("sam", 0.0009)):
        loss = comparison.chosen(arrays, key, "train_loss")
        text = f"{LABELS[key]} fits the training set: last mean training loss"
        yield Claim.mean(text, "Fig. 2", paper, loss, high=1e-2)
    for key in ("erm", "sam"):
        last, curve = (comparison.chosen(arrays, key, n) for n in ("last", "curve"))
        text = f"{LABELS[key]}: last test error above the least of all epochs (points)"
        gap = 100 * (last - curve.min(-1))
        yield Claim.mean(text, "Sec. 3.3", "<= 0.1", gap, high=0.15)


def plot(arrays: Arrays) -> plotting.Figure:
    """Training loss and test error: from the start, and with a switch."""
    figure, axes = plotting.panels(2, 2)
    start = {key: LABELS[key] for key in ("erm", "sam")}
    for row, names in enumerate((start, LABELS)):
        loss, error = axes[2 * row : 2 * row + 2]
        style = {"since": dict.fromkeys(PARENTS, float(arrays["switch"]))}
        units: dict[str, Any] = {"ylabel": "training loss", "percent": False}
        comparison_plots.draw_curves(loss, arrays, names, "loss", **units, **style)
        loss.set_yscale("log")
        comparison_plots.draw_curves(error, arrays, names, legend=False, **style)
        since = 0.8 * arrays["switch"] if row else 5
        if row:
            shown = arrays["epoch"] >= since
            seen = [comparison.chosen(arrays, key, "loss")[:, shown] for key in names]
            loss.set_ylim(0.7 * np.min(seen), 1.4 * np.percentile(seen, 98))
            for panel in (loss, error):
                panel.axvline(arrays["switch"], color="gray", linewidth=0.8)
                panel.set_xlim(since, arrays["epoch"][-1])
        comparison_plots.zoom(error, arrays, names, since)
    axes[0].set_title("one method throughout")
    axes[2].set_title("switched at the grey line")
    return figure
