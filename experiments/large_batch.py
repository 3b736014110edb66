"""One group of 128 examples against a batch of 256 in groups of 32 (App. C).

60% label noise, the same number of epochs, each with the same grid of rho. The paper
could not reproduce the second, which Foret et al. (2021) report, and takes the first
instead, as the same and much faster. Smaller networks have half of these sizes where
their batch is half as large.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from configs import cifar10_noise
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting

SOURCE = "App. C, batch and m"
TAKES = ("m_sharpness",)
ALIKE = 1.0  # points of test error within which the two count as the same


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """chunk: how many groups at a time; 0 for all. Groups at once are slow with
    BatchNorm on CPU.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    chunk: int = 0


SCALES = {
    "smoke": Settings(
        seeds=(0,), rho=(0.1,), recipe="smoke", changes={"model.name": "mlp"}
    ),
    "cpu": Settings(
        rho=(0.1, 0.2, 0.3, 0.4), recipe="embedded", changes=comparison.PLAIN
    ),
    "fashion": Settings(
        seeds=comparison.FASHION_SEEDS,
        rho=comparison.FASHION_RHO,
        tuning=comparison.NOISY_TUNING,
        recipe="fashion",
        changes=comparison.PLAIN,
    ),
    "paper": Settings(seeds=(0, 1, 2)),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM; SAM on the batch; and on two batches at once, in groups of a quarter."""
    base = cifar10_noise.get_config(variants("erm", settings.recipe))
    base = changed(base, settings.changes)
    size = base.batch_size
    one = changed(base, {"sam.kind": "sam", "sam.m": 0})
    groups = changed(
        base,
        {
            "sam.kind": "sum_max",
            "batch_size": 2 * size,
            "sam.m": size // 4,
            "sam.chunk": settings.chunk,
        },
    )
    return [
        comparison.Method("erm", f"ERM, batch {size}", base),
        comparison.Method("one_group", _label(size, size), one, settings.rho),
        comparison.Method("groups", _label(2 * size, size // 4), groups, settings.rho),
    ]


def _label(batch: int, m: int) -> str:
    return f"SAM, batch {batch}, m = {m}"


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all runs."""
    return comparison.collect(methods(settings), settings.seeds, trained)


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Both below ERM, and as good as one another."""
    labels = {method.key: method.label for method in methods(settings)}
    for key in ("one_group", "groups"):
        text = f"{labels[key]} below {labels['erm']}: test error, best epoch"
        yield pairs.lower(text, "control", None, arrays, key, "erm")
    pair = ("one_group", "groups")
    text = "{}: test error less that of {}".format(*(labels[key] for key in pair))
    paper = "the same"
    for at in ("best", "last"):
        yield pairs.alike(text, "App. C", paper, arrays, pair, at, within=ALIKE)


LABELS = {"erm": "ERM", "one_group": "SAM, one group", "groups": "SAM, eight groups"}


def plot(arrays: Arrays) -> plotting.Figure:
    """Test error over epochs, and the best epoch's over rho."""
    return comparison_plots.curves_and_grid(arrays, LABELS)
