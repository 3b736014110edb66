"""ERM against SAM on noisy digits: what `make train` shows of one seed, on five.

scikit-learn's digits with 60% label noise, PreAct ResNet-18 with GroupNorm
(`configs/digits.py`). rho is the recipe's; the figure has the whole grid, and curves at
the radius that the noisy validation labels of these five seeds choose. 360 test images:
one is .28%.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import digits
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "The main job"
LABELS = {"erm": "ERM", "sam": "SAM"}
FIGURES = comparison.FIGURES | {"clean": "train_clean_error_last"}


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: the grid, from which `configs/digits.py` has its value."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3)


SCALES = {
    "smoke": Settings(seeds=(0,), rho=(0.1,), recipe="smoke"),
    "cpu": Settings(),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and SAM."""
    return comparison.from_recipe(digits.get_config, LABELS, settings)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """ERM, and SAM with every rho, on every seed."""
    return comparison.plan(methods(settings), settings.seeds)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all runs."""
    return comparison.collect(
        methods(settings), settings.seeds, trained, figures=FIGURES
    )


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """SAM below ERM at both epochs; what overfits and what memorises. SAM has the rho
    of the recipe, that of `make train`, which other seeds have chosen.
    """
    source, rho = "main job", f"sam {_rho(arrays):g}, by other seeds"
    found = {at: _errors(arrays, at) for at in ("last", "best", "noisy")}
    for at, words in (("last", "last epoch"), ("best", "best epoch by validation")):
        sam, erm = found[at]
        text = f"SAM below ERM: test error, {words}"
        yield pairs.paired(text, source, None, sam, erm, rho=rho)
    text = "ERM overfits: last test error above the best epoch's (points)"
    yield Claim.mean(text, source, None, comparison.rises(arrays, "erm"), low=0)
    sam, erm = (100 * errors for errors in found["noisy"])
    text = "examples whose labels noise changed, not memorised: SAM less ERM (points)"
    words = f"{sam.mean():.1f} % against {erm.mean():.1f} %"
    yield Claim.mean(text, source, None, sam - erm, low=0, measured=words, rho=rho)


def _rho(arrays: Arrays) -> float:
    """The recipe's rho, or what is nearest to it in the grid."""
    grid = arrays["sam_rho"]
    return float(grid[np.abs(grid - digits.get_config().sam.rho).argmin()])


def _errors(arrays: Arrays, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of SAM at the recipe's rho, and of ERM, f[S] each."""
    at = arrays["sam_rho"].tolist().index(_rho(arrays))
    return arrays[f"sam_{name}"][at], arrays[f"erm_{name}"][0]


def plot(arrays: Arrays) -> plotting.Figure:
    """Test error over epochs; over rho at the best and at the last epoch."""
    figure, (curves, best, last) = plotting.panels(1, 3)
    comparison_plots.draw_curves(curves, arrays, LABELS)
    for panel, at in ((best, "best"), (last, "last")):
        label = f"test error, {at} epoch (%)"
        comparison_plots.draw_grid(panel, arrays, LABELS, at, ylabel=label)
    return figure
