"""ERM after a part of a run with SAM: SAM has to converge before it may be left.

Clean labels. Sec. 3.3 lets ERM follow SAM for the last tenth of the epochs, and says
that it is still important there that SAM converges: that the training loss falls below
some threshold first. Here ERM follows after a quarter, a half, three quarters and nine
tenths of the epochs, from the checkpoints of one run at SAM's best rho.
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

SOURCE = "Sec. 3.3, SAM must converge"
# Twentieths of the epochs with SAM, and how the switch is called.
SWITCHES = {5: "a quarter", 10: "a half", 15: "three quarters", 18: "nine tenths"}
CURVES = {"curve": "test_error", "loss": "train_loss"}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM from the start."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 20},
    ),
    "cpu": Settings(rho=(0.05, 0.1, 0.2), recipe="embedded", changes={"epochs": 60}),
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS[:5],
        rho=comparison.FASHION_RHO,
        tuning=comparison.FASHION_TUNING,
        recipe="fashion",
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM, SAM, and SAM up to each of SWITCHES."""
    found = []
    for kind, grid in (("erm", ()), ("sam", settings.rho)):
        config = cifar10.get_config(variants(kind, settings.recipe))
        config = changed(config, settings.changes)
        config.checkpoint.update(every_epochs=config.epochs // 20, keep=20)
        found.append(comparison.Method(kind, LABELS[kind], config, grid))
    for twentieths, words in SWITCHES.items():
        config = found[1].config.copy_and_resolve_references()
        config.sam.stop_epoch = twentieths * (config.epochs // 20)
        key, label = _key(twentieths), _label(words)
        found.append(comparison.Method(key, label, config, settings.rho))
    return found


def _key(twentieths: int) -> str:
    return f"after_{5 * twentieths}"


def _label(words: str) -> str:
    return f"SAM → ERM after {words}"


LABELS = {
    "erm": "ERM",
    "sam": "SAM",
    **{_key(part): _label(words) for part, words in SWITCHES.items()},
}


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed; the switched ones go on from SAM's."""
    found = comparison.plan(methods(settings), settings.seeds, settings.tuning)
    for (name, rho, seed), planned in found.items():
        if name not in ("erm", "sam"):
            parent: Key = ("sam", rho, seed)
            stop, trial = planned.config.sam.stop_epoch, found[parent].trial
            found[name, rho, seed] = PlannedRun(planned.config, parent, stop, trial)
    return found


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Curves of all runs; loss_at_switch f[switches, seeds], of SAM's chosen runs.

    Those that go on from SAM's have its validation errors: they are at its rho.
    """
    found = methods(settings)
    arrays = comparison.collect(found, settings.seeds, trained, curves=CURVES)
    for method in found[2:]:
        arrays[f"{method.key}_validation"] = arrays["sam_validation"]
    loss = comparison.chosen(arrays, "sam", "loss")
    stops = [method.config.sam.stop_epoch for method in found[2:]]
    at = [int(np.flatnonzero(arrays["epoch"] == stop)[0]) for stop in stops]
    return {**arrays, "stops": np.array(stops), "loss_at_switch": loss.T[at]}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The earlier the switch, the less is left of what SAM gains over ERM."""
    early, *_middle, late = (_key(part) for part in SWITCHES)
    text = f"{LABELS[late]} below {LABELS[early]}: test error, last epoch"
    yield pairs.lower(text, "Sec. 3.3", None, arrays, late, early, "last")
    text = f"SAM below {LABELS[early]}: test error, last epoch"
    yield pairs.lower(text, "Sec. 3.3", None, arrays, "sam", early, "last")
    text = f"{LABELS[late]} keeps what SAM found, to .2: test error, last epoch"
    yield pairs.lower(
        text, "Sec. 3.3", "kept", arrays, late, "sam", "last", margin=-0.002
    )
    ratio = np.log10(arrays["loss_at_switch"][0] / arrays["loss_at_switch"][-1])
    text = "SAM's training loss at the first switch over that at the last, log10"
    yield Claim.mean(text, "control", None, ratio, low=0)


def plot(arrays: Arrays) -> plotting.Figure:
    """Test errors over epochs; the last ones over the training loss at the switch."""
    figure, (curves, loss, ends) = plotting.panels(1, 3)
    switched = [_key(part) for part in SWITCHES]
    stops = dict(zip(switched, map(float, arrays["stops"]), strict=True))
    style: dict[str, Any] = {"since": stops, "legend": False}
    units: dict[str, Any] = {"ylabel": "training loss", "percent": False}
    comparison_plots.draw_curves(curves, arrays, LABELS, **style)
    comparison_plots.zoom(curves, arrays, LABELS, arrays["stops"][0])
    comparison_plots.draw_curves(loss, arrays, LABELS, "loss", **units, **style)
    loss.set_yscale("log")
    losses = dict(zip(switched, arrays["loss_at_switch"].mean(1), strict=True))
    for i, (key, label) in enumerate(LABELS.items()):
        color, last = plotting.COLORS[i], 100 * comparison.chosen(arrays, key, "last")
        if key not in losses:
            ends.axhline(last.mean(), color=color, label=label)
            continue
        look = {"color": color, "label": label}
        comparison_plots.draw_spread(ends, losses[key], last, **look)
    low, high = ends.get_ylim()
    ends.set_ylim(low, high + 0.8 * (high - low))  # the legend is of all panels
    ends.set(xlabel="training loss at the switch", ylabel="test error, last epoch (%)")
    ends.set_title(f"rho = {comparison.rho(arrays, 'sam'):g}; bars: 10-90% of seeds")
    ends.legend(frameon=False, fontsize="small", loc="upper left")
    return figure
