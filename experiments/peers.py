"""SAM and its relatives on noisy labels, at equal steps and at equal time.

60% label noise: SAM, unnormalised, SumMax (m = 1), ASAM, GSAM, layer-wise (AWP), every
fifth step, norm layers only or, where there are none, biases alone, and a random
perturbation. ERM once at equal steps, once for as many gradients as SAM (twice the
epochs). Each with its own rho by the noisy validation set.
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

SOURCE = "Peers (Sec. 1)"
TIMED = True
# key -> (label, keys of config.sam, factors on the rho grid)
PEERS: dict[str, tuple[str, dict[str, Any], float]] = {
    "erm": ("ERM", {"kind": "erm"}, 1.0),
    "erm_long": ("ERM, twice the epochs", {"kind": "erm"}, 1.0),
    "sam": ("SAM", {}, 1.0),
    "unnormalized": ("unnormalised", {"normalize": False}, 1.0),
    "sum_max": ("SumMax, m = 1", {"kind": "sum_max", "m": 1}, 0.25),
    "asam": ("ASAM", {"kind": "asam"}, 5.0),
    "gsam": ("GSAM", {"kind": "gsam"}, 1.0),
    "layerwise": ("layer-wise (AWP)", {"kind": "layerwise_sam"}, 0.1),
    "periodic": ("SAM every 5 steps", {"every": 5}, 1.0),
    "only_norm": ("norm layers only", {"only_norm": True}, 1.0),
    "random": ("random perturbation", {"kind": "random_perturbation"}, 1.0),
}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: the grid of SAM; a peer's is a multiple of it. peers: which ones."""

    seeds: tuple[int, ...] = (0, 1, 2)
    rho: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4)
    peers: tuple[str, ...] = tuple(PEERS)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        peers=("erm", "erm_long", "sam", "periodic"),
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 2},
    ),
    # The small network has no normalisation layers.
    "cpu": Settings(
        rho=(0.1, 0.2, 0.4),
        peers=tuple(peer for peer in PEERS if peer != "only_norm"),
        recipe="embedded",
        changes={"model.name": "conv_net"},
    ),
    "fashion": Settings(
        seeds=(0, 1, 2, 3, 4),
        rho=comparison.FASHION_RHO,
        peers=tuple(peer for peer in PEERS if peer != "only_norm"),
        tuning=comparison.FASHION_TUNING,
        recipe="fashion",
        changes=comparison.PLAIN,
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """The peers, each with its rho grid."""
    found = []
    for key in settings.peers:
        label, keys, factor = PEERS[key]
        config = cifar10_noise.get_config(variants("sam", settings.recipe))
        config = changed(config, settings.changes)
        config.sam.update(keys)
        if key == "erm_long":
            config.epochs = 2 * config.epochs
        grid = tuple(round(factor * rho, 6) for rho in settings.rho)
        grid = () if config.sam.kind == "erm" else grid
        found.append(comparison.Method(key, label, config, grid))
    return found


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every peer, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all peers, and how long a step of each takes."""
    arrays: dict[str, np.ndarray] = {}
    for method in methods(settings):
        own = {k: t for k, t in trained.items() if k[0] == method.key}
        arrays |= comparison.collect([method], settings.seeds, own)
        arrays[f"{method.key}_epoch"] = arrays.pop("epoch")
        seconds = [_seconds_per_epoch(t) for t in own.values()]
        arrays[f"{method.key}_seconds"] = np.array(np.median(seconds))
    arrays["peers"] = np.array(settings.peers)
    return arrays


def _seconds_per_epoch(run: TrainedRun) -> float:
    """The median over epochs, so that compiling does not count."""
    return float(np.median(np.diff(run.curve("seconds"), prepend=0)))


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every peer below ERM at equal steps, and SAM at equal gradients."""
    labels = {key: PEERS[key][0] for key in arrays["peers"]}
    for key, label in labels.items():
        if key in ("erm", "erm_long"):
            continue
        text = f"{label} below ERM at equal steps: test error, best epoch"
        yield pairs.lower(text, "peers", None, arrays, key, "erm")
    if "erm_long" in labels:
        text = "SAM below ERM at equal gradients: test error, best epoch"
        yield pairs.lower(text, "peers", None, arrays, "sam", "erm_long")
    if "random" in labels:
        text = "SAM below the random perturbation: test error, last epoch"
        yield pairs.lower(text, "control", None, arrays, "sam", "random", "last")


def plot(arrays: Arrays) -> plotting.Figure:
    """Bars at the best and last epoch; the best error against the time of a run."""
    labels = {key: PEERS[key][0] for key in arrays["peers"]}
    figure, (best, last, time, names) = plotting.panels(2, 2, width=4.4, height=3.8)
    comparison_plots.draw_bars(best, arrays, labels)
    comparison_plots.draw_bars(
        last, arrays, labels, "last", ylabel="test error, last epoch (%)"
    )
    base = float(arrays["erm_seconds"])
    for i, (key, label) in enumerate(labels.items()):
        error = 100 * comparison.chosen(arrays, key, "best").mean()
        factor = 2 if key == "erm_long" else 1
        cost = factor * float(arrays[f"{key}_seconds"]) / base
        laps, color = divmod(i, len(plotting.COLORS))
        time.plot(cost, error, "os"[laps], color=plotting.COLORS[color], label=label)
    names.legend(*time.get_legend_handles_labels(), frameon=False, loc="upper left")
    names.axis("off")
    time.set(xlabel="time of a run over ERM's", ylabel="test error, best epoch (%)")
    time.set_ylim(0, 1.1 * time.get_ylim()[1])
    for panel in (best, last):
        panel.tick_params(axis="x", rotation=60, labelsize="small")
    return figure
