"""SAM, a robust loss and weight averaging under label noise, in all combinations.

Cross-entropy or generalised cross-entropy (GCE), without and with SAM, the last weights
or their moving average, at two noise levels; rho and epoch by the noisy validation set.
Where a part of the seeds chooses rho, they choose it for the weights, and the averages
have the same.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import cifar_gce
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.paper_scale import COLUMNS, TABLE_2
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "Table 2"
LABELS = {
    "ce": "CE",
    "ce_sam": "CE + SAM",
    "gce": "GCE",
    "gce_sam": "GCE + SAM",
}
NAMES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "fashion_mnist": "Fashion-MNIST",
}
AVERAGED = {f"{key}_ema": f"{label} + EMA" for key, label in LABELS.items()}
PAPER = {key: dict(zip(COLUMNS, row, strict=True)) for key, row in TABLE_2.items()}
# The table's rows from the literature, in the order of the columns above.
LITERATURE = {
    "SCE (Wang et al. 2019)": (13.26, 19.20, 33.59, 42.57),
    "MentorNet (Jiang et al. 2018)": (11.00, None, 32.00, None),
    "DAC (Thulasidasan et al. 2019)": (9.29, 13.70, 33.08, 42.83),
    "Self-Adaptive Training (Huang et al. 2020)": (7.36, 10.77, 28.62, 37.31),
}
EMA_CURVES = {"curve": "ema_test_error"}
EMA_FIGURES = {name: f"ema_{figure}" for name, figure in comparison.FIGURES.items()}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """data: data sets. noise: percent of the labels replaced. rho: the grid."""

    seeds: tuple[int, ...] = (0,)
    data: tuple[str, ...] = ("cifar10", "cifar100")
    noise: tuple[int, ...] = (40, 60)
    rho: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4)


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        data=("digits",),
        noise=(60,),
        rho=(0.1,),
        recipe="smoke",
        changes={"model.name": "mlp"},
    ),
    "cpu": Settings(
        seeds=(0, 1, 2, 3, 4),
        data=("digits",),
        rho=(0.2, 0.4),
        recipe="embedded",
        changes={"model.name": "conv_net", "ema.decay": 0.99},
    ),
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS,
        data=("fashion_mnist",),
        rho=comparison.FASHION_RHO,
        tuning=comparison.NOISY_TUNING,
        recipe="fashion",
        changes={**comparison.PLAIN, "ema.decay": 0.99},
    ),
    # The paper has one run; its rho here, and two more to tell an interval.
    "paper": Settings(seeds=(0, 1, 2), tuning=1),
}


def methods(settings: Settings, data: str, noise: int) -> list[comparison.Method]:
    """The four trainings on a data set at a noise level."""
    changes = {"data.name": data, "data.noise.fraction": noise / 100}
    own = dataclasses.replace(settings, changes=changes | dict(settings.changes))
    return comparison.from_recipe(
        cifar_gce.get_config,
        LABELS,
        own,
        grids={"ce": (), "gce": ()},
        prefix=f"{data}_{noise}_",
    )


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every data set, noise level, training, rho and seed."""
    s, found = settings, {}
    for data in s.data:
        for noise in s.noise:
            found |= comparison.plan(methods(s, data, noise), s.seeds, s.tuning)
    return found


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of the last weights and of their averages, and Table 2's order."""
    s = settings
    arrays: dict[str, np.ndarray] = {
        "columns": np.array([f"{data}_{noise}" for data in s.data for noise in s.noise])
    }
    for data in s.data:
        for noise in s.noise:
            some = methods(s, data, noise)
            arrays |= comparison.collect(some, s.seeds, trained)
            averaged = comparison.collect(
                some, s.seeds, trained, figures=EMA_FIGURES, curves=EMA_CURVES
            )
            for method in some:
                for name in ("rho", "curve", *comparison.FIGURES):
                    arrays[f"{method.key}_ema_{name}"] = averaged[
                        f"{method.key}_{name}"
                    ]
    return arrays


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Table 2's order in every column; pairs with GCE alone or other averages are ours.

    At a noise where the paper's averages are worse, that is the claim.
    """
    order = [
        ("ce_sam", "ce"),
        ("gce_sam", "ce_sam"),
        ("gce", "ce"),
        ("gce_sam", "gce"),
        ("ce_ema", "ce"),
        ("ce_sam_ema", "ce_sam"),
        ("gce_ema", "gce"),
        ("gce_sam_ema", "gce_sam"),
    ]
    labels = LABELS | AVERAGED
    for column in arrays["columns"]:
        for pair in order:
            pair, words = _ordered(pair, column)
            keys = [f"{column}_{key}" for key in pair]
            text = "{} below {}".format(*(labels[key] for key in pair))
            text = f"{_title(column)}: {text}, best epoch"
            source = "Table 2" if words else "target beside Table 2"
            yield pairs.lower(text, source, words, arrays, *keys)


def _ordered(pair: tuple[str, str], column: str) -> tuple[tuple[str, str], str | None]:
    """A pair in the paper's order, and its values; those on CIFAR-10 at the same noise
    for another data set. None for what is not in the paper.
    """
    if not set(pair) <= PAPER.keys():
        return pair, None
    known = column in COLUMNS
    of = column if known else f"cifar10_{column.split('_')[-1]}"
    better, worse = sorted(pair, key=lambda key: PAPER[key][of])
    text = f"{PAPER[better][of]} against {PAPER[worse][of]}"
    return (better, worse), text if known else f"CIFAR-10: {text}"


def _title(column: str) -> str:
    data, noise = column.rsplit("_", 1)
    return f"{NAMES.get(data, data)}, {noise}% noise"


def plot(arrays: Arrays) -> plotting.Figure:
    """Bars for every column of the table, and the test error over epochs."""
    columns = arrays["columns"].tolist()
    figure, axes = plotting.panels(2, len(columns), width=4.4)
    order = (*LABELS, *AVERAGED)
    labels = LABELS | AVERAGED
    for i, column in enumerate(columns):
        known = {f"{column}_{key}": labels[key] for key in order}
        bars, curves = axes[i], axes[len(columns) + i]
        comparison_plots.draw_bars(bars, arrays, known, cycle=len(LABELS))
        bars.set_title(_title(column))
        if column in COLUMNS:
            _draw_literature(bars, column, order)
        _draw_curves(curves, arrays, column)
    return figure


def _draw_curves(axes: plotting.Axes, arrays: Arrays, column: str) -> None:
    """Test errors, those of averages dashed; the first epochs lie above the picture."""
    for labels, style in ((LABELS, "-"), (AVERAGED, "--")):
        known = {f"{column}_{key}": label for key, label in labels.items()}
        comparison_plots.draw_curves(axes, arrays, known, linestyle=style)
    later = arrays["epoch"] > arrays["epoch"][-1] / 4
    highest = max(line.get_ydata()[later].max() for line in axes.get_lines())
    axes.set_ylim(0, 1.6 * highest)
    axes.legend(frameon=False, fontsize="x-small", ncol=2, loc="upper right")


def _draw_literature(bars: plotting.Axes, column: str, order: tuple[str, ...]) -> None:
    """The paper's own values as crosses, the table's other rows as lines."""
    for i, key in enumerate(order):
        if key in PAPER:
            bars.plot(i, PAPER[key][column], "kx")
    for color, (name, row) in zip(plotting.COLORS, LITERATURE.items(), strict=False):
        value = row[COLUMNS.index(column)]
        if value is not None:
            bars.axhline(value, color=color, linestyle=":", label=name)
    bars.legend(frameon=False, fontsize="x-small")
