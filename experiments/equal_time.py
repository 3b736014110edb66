"""Variants of SAM at equal steps, equal gradients and in equal time.

Clean labels and 60% label noise. Every variant over the same number of radii, chosen by
validation, as SAM's multiplied by a factor, and the same seeds: the same budget of runs
for each. At equal steps all take the recipe's epochs. At equal gradients a variant of g
gradients takes 2 / g times as many, so that all cost what SAM costs, and ERM takes
twice as many; the time of each run is measured beside it.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from configs import cifar10_noise
from experiments.harness import comparison, comparison_plots
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting
from sam_jax.transforms import VARIANTS

SOURCE = "Equal cost (peers)"
TIMED = True
NOISE = {"clean": 0.0, "noisy": 0.6}
# Variants that need what these runs have not, an ascent batch, rare classes or stored
# outputs, and the ablations of Table 1, which have an experiment of their own.
LEFT_OUT = {"max_sum", "imb_sam", "focal_sam", "saf", "sam_direction", "sam_derivative"}
KINDS = tuple(name for name in VARIANTS if name not in LEFT_OUT)
# Radii as multiples of SAM's, where a ball of another shape, or a weight, has others.
FACTORS = {
    "sum_max": 0.25,
    "asam": 5.0,
    "layerwise_sam": 0.1,
    "msam": 5.0,
    "le_sam": 5.0,
    "mesa": 10.0,
}
GROUPS = {"sum_max": {"m": 1}}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """kinds: variants beside ERM. noise: parts of the labels, by name."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    kinds: tuple[str, ...] = KINDS
    noise: tuple[str, ...] = tuple(NOISE)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        kinds=("sam", "msam"),
        noise=("noisy",),
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 2},
    ),
    "cpu": Settings(
        seeds=(0, 1, 2),
        rho=(0.1, 0.2, 0.4),
        noise=("noisy",),
        recipe="embedded",
        changes=comparison.PLAIN,
    ),
    "fashion": Settings(
        rho=comparison.FASHION_RHO, recipe="fashion", changes=comparison.PLAIN
    ),
    "paper": Settings(),
}


def gradients(kind: str) -> float:
    """Of a step, in those of ERM."""
    return 1.0 if kind == "erm" else VARIANTS[kind].gradients


def methods(settings: Settings) -> list[comparison.Method]:
    """Every variant at equal steps, and at equal gradients where that differs."""
    found = []
    for noise in settings.noise:
        for kind in ("erm", *settings.kinds):
            config = cifar10_noise.get_config(variants(settings.recipe))
            config = changed(config, settings.changes)
            config.data.noise.fraction = NOISE[noise]
            config.sam.update(kind=kind, **GROUPS.get(kind, {}))
            grid = tuple(round(FACTORS.get(kind, 1) * rho, 6) for rho in settings.rho)
            grid = () if kind == "erm" else grid
            found.append(comparison.Method(f"{noise}_{kind}", kind, config, grid))
            if gradients(kind) != 2:
                longer = changed(
                    config, {"epochs": round(config.epochs * 2 / gradients(kind))}
                )
                key, label = f"{noise}_{kind}_fair", f"{kind}, equal gradients"
                found.append(comparison.Method(key, label, longer, grid))
    return found


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all methods, and the seconds of their runs without compiling."""
    arrays: dict[str, Any] = {}
    for method in methods(settings):
        own = {k: t for k, t in trained.items() if k[0] == method.key}
        arrays |= comparison.collect([method], settings.seeds, own)
        arrays[f"{method.key}_epoch"] = epochs = arrays.pop("epoch")
        steps = [
            np.median(np.diff(t.curve("seconds"), prepend=0)) for t in own.values()
        ]
        arrays[f"{method.key}_seconds"] = len(epochs) * np.median(steps)
    arrays["kinds"], arrays["noise"] = (
        np.array(settings.kinds),
        np.array(settings.noise),
    )
    return arrays


def fair(arrays: Arrays, noise: str, kind: str) -> str:
    """The key of a variant at equal gradients."""
    longer = f"{noise}_{kind}_fair"
    return longer if f"{longer}_rho" in arrays else f"{noise}_{kind}"


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every variant below ERM, and below SAM, at equal gradients."""
    for noise in map(str, arrays["noise"]):
        for kind in map(str, arrays["kinds"]):
            key = fair(arrays, noise, kind)
            for other in ("erm", "sam"):
                if kind != other:
                    text = (
                        f"{noise} labels: {kind} below {other} at equal gradients: "
                        "test error, best epoch"
                    )
                    against = fair(arrays, noise, other)
                    yield comparison.lower(text, "peers", None, arrays, key, against)


def plot(arrays: Arrays) -> plotting.Figure:
    """For each noise the errors at equal gradients, and error against time."""
    noises = [str(noise) for noise in arrays["noise"]]
    kinds = ["erm", *map(str, arrays["kinds"])]
    figure, axes = plotting.panels(len(noises), 2, width=6.0, height=4.2)
    for row, noise in zip(np.atleast_2d(axes), noises, strict=True):
        labels = {fair(arrays, noise, kind): kind for kind in kinds}
        comparison_plots.draw_bars(row[0], arrays, labels)
        row[0].set_title(f"{noise} labels, equal gradients")
        row[0].tick_params(axis="x", rotation=70, labelsize="small")
        base = float(arrays[f"{noise}_erm_seconds"])
        for i, kind in enumerate(kinds):
            keys = dict.fromkeys((f"{noise}_{kind}", fair(arrays, noise, kind)))
            cost = [float(arrays[f"{key}_seconds"]) / base for key in keys]
            error = [
                100 * comparison.chosen(arrays, key, "best").mean() for key in keys
            ]
            laps, color = divmod(i, len(plotting.COLORS))
            style = {"marker": "osD^v"[laps % 5], "color": plotting.COLORS[color]}
            row[1].plot(cost, error, label=kind, linestyle=":", **style)
        row[1].set(
            xlabel="time of a run over ERM's", ylabel="test error, best epoch (%)"
        )
        row[1].legend(
            frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)
        )
    return figure
