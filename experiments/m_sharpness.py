"""Test error against m, the number of examples that share a perturbation.

60% label noise, the batch fixed. Every m with a rho grid of its own, by one rule: the
gradient of a few examples is longer, and a perturbation of theirs does more. m = 1 is
the SumMax objective, which costs what SAM does.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from configs import cifar10_noise
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting

SOURCE = "m-sharpness (the paper's later version)"
TRAINS = 0.5  # a test error above which a radius does not train
# What a network normalises with; "none" is a small convolutional network.
NORMS = {"group": "GroupNorm", "batch": "BatchNorm", "none": "no normalisation"}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """m: group sizes, 0 for the batch. rho: the grid of the batch; that of groups of m
    is it times (m / batch)^power. On digits single examples wanted a fourth to a fifth
    of the rho of a batch of 64, which is a power of a third. rho_single, rho_group: for
    m = 1 and for sizes between, in place of the rule; () for the rule. chunk: how many
    groups at a time with BatchNorm, whose groups have weights of their own; 0 for all.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    m: tuple[int, ...] = (1, 4, 16, 64, 0)
    rho: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4)
    rho_single: tuple[float, ...] = ()
    rho_group: tuple[float, ...] = ()
    power: float = 1 / 3
    chunk: int = 0
    norms: tuple[str, ...] = ("group",)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        m=(1, 0),
        rho=(0.1,),
        rho_single=(0.05,),
        norms=("none",),
        recipe="smoke",
    ),
    "cpu": Settings(
        m=(1, 4, 16, 0),
        rho=(0.1, 0.2, 0.3, 0.4),
        rho_single=(0.02, 0.05, 0.1, 0.15),
        rho_group=(0.05, 0.1, 0.2, 0.3),
        norms=("none",),
        recipe="embedded",
    ),
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS,
        m=(1, 4, 16, 64, 0),
        rho=comparison.FASHION_RHO,
        norms=("none",),
        tuning=comparison.NOISY_TUNING,
        recipe="fashion",
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and every m, for every kind of normalisation."""
    found = []
    for norm in settings.norms:
        base = cifar10_noise.get_config(variants("erm", settings.recipe))
        network = {"model.name": "conv_net"} if norm == "none" else {"model.norm": norm}
        base = changed(base, network | dict(settings.changes))
        found.append(comparison.Method(f"{norm}_erm", "ERM", base))
        for m in settings.m:
            if m == 1 and norm == "batch":
                continue
            keys: dict[str, Any] = {"sam.kind": "sum_max" if m else "sam", "sam.m": m}
            if m and norm == "batch":
                keys["sam.chunk"] = settings.chunk
            label = f"m = {m or base.batch_size}"
            config = changed(base, keys)
            grid = _grid(settings, m, base.batch_size)
            found.append(comparison.Method(f"{norm}_{m}", label, config, grid))
    return found


def _grid(settings: Settings, m: int, batch: int) -> tuple[float, ...]:
    """The grid of groups of m, to two digits where it is by the rule."""
    given = {0: settings.rho, 1: settings.rho_single}.get(m, settings.rho_group)
    if given:
        return given
    factor = (m / batch) ** settings.power
    return tuple(float(f"{factor * rho:.2g}") for rho in settings.rho)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every m, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all runs, and whether each m does better than ERM."""
    arrays = dict(comparison.collect(methods(settings), settings.seeds, trained))
    batch = next(iter(runs(settings).values())).config.batch_size
    arrays["m"] = np.array(settings.m)
    arrays["sizes"] = np.array([m or batch for m in settings.m])
    arrays["norms"] = np.array(settings.norms)
    return arrays


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every m below ERM, and the smallest below the batch; what rho does to noise."""
    for norm in arrays["norms"]:
        for key, label in _of_norm(arrays, norm).items():
            if key == f"{norm}_erm":
                continue
            text = f"{NORMS[norm]}: {label} below ERM, test error, best epoch"
            yield pairs.lower(text, "m-sharpness", None, arrays, key, f"{norm}_erm")
            yield from _fitting(arrays, key, f"{NORMS[norm]}: {label}")
        keys = list(_of_norm(arrays, norm))[1:]
        if len(keys) < 2:
            continue
        smallest, batch = keys[0], keys[-1]
        names = [_of_norm(arrays, norm)[key] for key in (smallest, batch)]
        text = f"{NORMS[norm]}: {names[0]} below {names[1]}, test error, best epoch"
        source = "Foret et al. 2021, Sec. 4.1"
        yield pairs.lower(text, source, None, arrays, smallest, batch)


def _fitting(arrays: Arrays, key: str, label: str) -> Iterator[Claim]:
    """The larger rho, the fewer wrong labels are learned: the slope, by least squares,
    over the radii that train, of each seed that has all.
    """
    tried = comparison.tried(arrays, key)
    trains = arrays[f"{key}_best"][:, :tried].mean(1) < TRAINS
    if trains.sum() > 1:
        errors = 100 * arrays[f"{key}_noisy"][trains, :tried]
        tens = np.log10(arrays[f"{key}_rho"][trains])
        slopes = np.polyfit(tens, errors, 1)[0]
        text = (
            f"{label}: fewer wrong labels are learned with ten times the rho (points)"
        )
        percents = ", ".join(f"{error:.0f}" for error in errors.mean(1))
        words = f"{slopes.mean():.0f} (not learned, over rho: {percents} %)"
        yield Claim.mean(text, "target", None, slopes, low=0, measured=words)


def _of_norm(arrays: Arrays, norm: str) -> dict[str, str]:
    """key -> label of the methods with this normalisation."""
    sizes = dict(zip(arrays["m"].tolist(), arrays["sizes"].tolist(), strict=True))
    keys = {f"{norm}_{m}": f"m = {size}" for m, size in sizes.items()}
    every = {f"{norm}_erm": "ERM"} | keys
    return {key: label for key, label in every.items() if f"{key}_rho" in arrays}


def plot(arrays: Arrays) -> plotting.Figure:
    """Error over m at the best epoch and at the last, and over rho of every m."""
    norms = arrays["norms"].tolist()
    figure, axes = plotting.panels(len(norms), 3, width=3.8)
    for row, norm in enumerate(norms):
        known = _of_norm(arrays, norm)
        over_m, last, grid = axes[3 * row : 3 * row + 3]
        for panel, name, words in (
            (over_m, "best", "best epoch"),
            (last, "last", "last epoch"),
        ):
            _draw_over_m(panel, arrays, norm, name)
            panel.set(ylabel=f"test error, {words} (%)", title=NORMS[norm])
        comparison_plots.draw_grid(
            grid, arrays, known, ylabel="test error, best epoch (%)"
        )
        grid.set_title(f"{NORMS[norm]}, over rho")
    return figure


def _draw_over_m(panel: plotting.Axes, arrays: Arrays, norm: str, name: str) -> None:
    sizes = dict(zip(arrays["m"].tolist(), arrays["sizes"].tolist(), strict=True))
    shown = {s: f"{norm}_{m}" for m, s in sizes.items() if f"{norm}_{m}_rho" in arrays}
    errors = np.stack(
        [comparison.chosen(arrays, key, name) for key in shown.values()], 1
    )
    line = {"color": plotting.COLORS[1], "label": "SAM"}
    if len(shown) < 3:  # two sizes are no curve
        for size, values in zip(shown, 100 * errors.T, strict=True):
            comparison_plots.draw_spread(panel, size, values, **line)
            line["label"] = "_"
    else:
        plotting.band(panel, list(shown), 100 * errors, marker="o", **line)
    erm = 100 * comparison.chosen(arrays, f"{norm}_erm", name)
    panel.axhline(erm.mean(), color=plotting.COLORS[0], linestyle="--", label="ERM")
    bars = "; bars: 10-90% of seeds" if len(shown) < 3 else ""
    panel.set(xscale="log", xlabel=f"m{bars}")
    panel.set_xticks(list(shown), [str(size) for size in shown])
    panel.minorticks_off()
    panel.set_ylim(bottom=80 * min(errors.min(), erm.min() / 100))
    panel.legend(frameon=False)
