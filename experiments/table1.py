"""Which part of SAM helps against noisy labels: the direction or the derivative.

Two classes, 80% label noise. SAM direction keeps the loss derivative at w and takes the
network's gradient at the ascent point; SAM derivative does the opposite. rho and epoch
by the noisy validation set, for each method its own rho.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import two_class
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "Table 1, Figure 12"
LABELS = {
    "erm": "ERM",
    "sam_direction": "SAM direction",
    "sam_derivative": "SAM derivative",
    "sam": "SAM",
}
# (better, worse, the paper's test errors at the best epoch in %); its conclusion first.
ORDER = (
    ("sam_derivative", "sam_direction", "7.45 ± .28 against 11.30 ± .68"),
    ("sam_direction", "erm", "11.30 ± .68 against 13.47 ± .80"),
    ("sam", "sam_direction", "9.02 ± .34 against 11.30 ± .68"),
    ("sam_derivative", "sam", "7.45 ± .28 against 9.02 ± .34"),
)


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: the grid. derivative: that of the derivative alone, which may want larger
    ones; () for the same. recipe: variant of configs/two_class.py that sets the scale.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    rho: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)
    derivative: tuple[float, ...] = ()


SCALES = {
    "smoke": Settings(
        seeds=(0,), rho=(0.1,), recipe="smoke", changes={"model.name": "mlp"}
    ),
    # 287 images of two digits. A quarter of them validates: a tenth would be 28, of
    # which noise turns 11.
    "cpu": Settings(
        seeds=(0, 1, 2, 3, 4),
        rho=(0.01, 0.03, 0.1, 0.2, 0.4),
        recipe="embedded",
        changes={
            "model.name": "conv_net",
            "epochs": 100,
            "schedule.warmup_epochs": 10.0,
            "checkpoint.every_epochs": 100,
            "data.validation_fraction": 0.25,
        },
    ),
    # The derivative's goes on until validation no longer chooses its end.
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS,
        rho=(0.003, 0.01, 0.03, 0.1, 0.3),
        derivative=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        recipe="fashion",
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM, and each part of SAM with its rho grid."""
    grids = {"sam_derivative": settings.derivative or settings.rho}
    return comparison.from_recipe(two_class.get_config, LABELS, settings, grids=grids)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all runs, and the order of the methods."""
    return comparison.collect(methods(settings), settings.seeds, trained)


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The order of the methods, and what choosing an epoch costs."""
    yield from order_claims(arrays)
    yield oscillates(arrays)
    for key in LABELS:
        yield price_of_choosing(arrays, key)


def order_claims(arrays: Arrays) -> Iterator[Claim]:
    """The order of Table 1, pair by pair, at the best epoch by validation."""
    for better, worse, paper in ORDER:
        text = f"{LABELS[better]} below {LABELS[worse]}: test error, best epoch"
        yield pairs.lower(text, "Table 1", paper, arrays, better, worse)


def oscillates(arrays: Arrays) -> Claim:
    """The test error of SAM derivative jumps from epoch to epoch more than SAM's."""
    keys = ("sam_derivative", "sam")
    jumps = [
        100 * np.abs(np.diff(comparison.chosen(arrays, key, "curve"))).mean(-1)
        for key in keys
    ]
    text = "SAM derivative oscillates: mean change of test error an epoch above SAM's"
    return Claim.mean(
        f"{text} (points)",
        "Fig. 12",
        "> 0",
        jumps[0] - jumps[1],
        low=0,
        measured=f"{jumps[0].mean():.2f} against {jumps[1].mean():.2f}",
        rho=comparison.radii(arrays, keys),
    )


def price_of_choosing(arrays: Arrays, key: str) -> Claim:
    """What the noisy validation set costs: the chosen epoch's test error over the least
    of all epochs. Where it is larger than the methods differ, it decides their order.
    """
    best = comparison.chosen(arrays, key, "best")
    least = comparison.chosen(arrays, key, "curve").min(-1)
    price = 100 * (best - least)
    words = f"{comparison.spread(best)}, least {comparison.spread(least)}"
    text = f"{LABELS[key]}: test error at the epoch chosen over the least (points)"
    return Claim.mean(
        text,
        "early stopping",
        None,
        price,
        high=2,
        measured=f"{price.mean():.1f} ({words})",
        rho=comparison.radii(arrays, [key]),
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """Test error over epochs for the first seeds, over rho, and at the best epoch."""
    seeds = arrays["seeds"]
    figure, axes = plotting.panels(2, 3, width=3.6)
    for i, (panel, seed) in enumerate(zip(axes[:3], seeds, strict=False)):
        for color, (key, label) in zip(plotting.COLORS, LABELS.items(), strict=False):
            error = 100 * comparison.chosen(arrays, key, "curve")[i]
            panel.plot(arrays["epoch"], error, color=color, label=label, linewidth=1)
            best = 100 * comparison.chosen(arrays, key, "best")[i]
            panel.axhline(best, color=color, linestyle=":", linewidth=1)
        title = f"seed {seed}, one of {len(seeds)}"
        panel.set(xlabel="epoch; dotted: error at the one chosen", title=title)
        panel.set(ylabel="test error (%)", ylim=(0, None))
        panel.locator_params(axis="x", integer=True)
    axes[0].legend(frameon=False, fontsize="small")
    for panel in axes[len(seeds) : 3]:
        panel.set_visible(False)
    grid, last, bars = axes[3:]
    comparison_plots.draw_grid(
        grid, arrays, LABELS, ylabel="test error, best epoch (%)"
    )
    comparison_plots.draw_grid(
        last, arrays, LABELS, "last", ylabel="test error, last epoch (%)"
    )
    comparison_plots.draw_bars(bars, arrays, LABELS)
    return figure
